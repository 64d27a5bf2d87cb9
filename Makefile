# Both commands are complete on a fresh Debian machine as root: they install what they need, and say so.
PYTHON ?= python3
VENV := .venv
PYTEST = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest
# Tests side by side; each of these has a lab of its own.
WORKERS ?= 4
PACKAGES := systemd-container mmdebstrap iproute2 util-linux procps openssh-client iputils-ping dnsmasq-base bind9-dnsutils nftables python3-venv
# What the tests compare with, or open reports and check rules in.
PACKAGES_TEST := ansible-core chromium dnsperf tcpdump
PACKAGES_KUBERNETES := qemu-system-x86 qemu-utils e2fsprogs

# What is missing of some Debian packages, said and installed.
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; fi
endef

.PHONY: demo demo-ipvs test inotify fuzz test-kubernetes bench bench-scale check setup docs test-packages kubernetes-packages lock audit collateral faults clean

demo: setup          ## bring the lab up, break node-0's dnsmasq, watch dnsmend heal it
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab.demo

demo-ipvs: setup kubernetes-packages   ## the second incident, on virtual machines with a real kube-proxy; builds Kubernetes first
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab.demo ipvs

test: setup test-packages inotify check   ## every test on containers as nodes; what needs a Kubernetes on virtual machines: make test-kubernetes
	$(PYTEST) -m "not kubernetes" --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder || { \
		echo "once more, one after the other: what failed while others ran beside it"; \
		$(PYTEST) -m "not kubernetes" --last-failed --last-failed-no-failures=none; }

# Debian's limit of 128 is one for all containers of the machine together, and systemd needs some in each.
INOTIFY := fs.inotify.max_user_instances
inotify:
	@[ "$$(sysctl -n $(INOTIFY))" -ge 1024 ] || { echo "until the next boot: $(INOTIFY)=1024"; sysctl -q -w $(INOTIFY)=1024; }

fuzz: setup          ## every reader of somebody else's words against made-up ones, MINUTES each (10), JOBS at once (1)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	nice $(VENV)/bin/python -m tests.fuzz.run --minutes $(or $(MINUTES),10) --jobs $(or $(JOBS),1) $(TARGETS)

test-kubernetes: setup test-packages kubernetes-packages   ## what needs the Kubernetes lab
	$(PYTEST) -m kubernetes

bench: setup         ## how fast, beside Ansible, Mitogen and OpenSSH: docs/benchmark.md; more: BENCH="--nodes 5,20,50"
	$(call install,ansible-core)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m bench.compare $(BENCH)

bench-scale: setup   ## what a diagnosis of up to 2,000 simulated nodes costs this machine: docs/scale.md; SCALE="--hosts 100,500"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m bench.scale $(SCALE)

check: setup         ## style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .

setup: $(VENV)/ready

docs: setup          ## what of docs/ is made: its index, the schema of a diagnosis
	$(VENV)/bin/python -m reports.docs

test-packages: $(VENV)/bin/promtool
	$(call install,$(PACKAGES_TEST))

# Taken out of Debian's package: to install that would start a server.
$(VENV)/bin/promtool: | $(VENV)/ready
	apt-get -qq update
	cd $(VENV) && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb prometheus
	mv $(VENV)/prometheus/usr/bin/promtool $@ && rm -r $(VENV)/prometheus $(VENV)/prometheus_*.deb

kubernetes-packages:
	$(call install,$(PACKAGES_KUBERNETES))

$(VENV)/ready: requirements.lock
	$(call install,$(PACKAGES))
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dnsmend needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

lock:                ## write requirements.lock anew from pyproject.toml
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --disable-pip-version-check $$($(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*(repr(d) for d in p["dependencies"] + p["optional-dependencies"]["test"]))' | tr -d "'")
	( echo "# What dnsmend is tested with. Made by: make lock"; $(VENV)/lock/bin/pip freeze --disable-pip-version-check ) > requirements.lock
	rm -rf $(VENV)/lock

# --strict: what could not be looked up is no pass. The exception is explained in SECURITY.md.
audit:               ## known vulnerabilities of what dnsmend is built on; needs the network
	$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict --ignore-vuln CVE-2026-44405

collateral:          ## what each operation costs those who are served meanwhile, on the lab that is up: docs/collateral.md
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m bench.collateral --runs $(or $(RUNS),3)

faults: setup        ## what a node is like after whatever has failed in a run: docs/faults.md; FAULTS="--scenarios except-lo --minutes 30"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab up
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m bench.faults $(FAULTS)

clean:               ## take the lab down and drop what was set up in this checkout
	-$(VENV)/bin/python -m lab down
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
