# Both commands are complete on a fresh Debian machine as root: they install what they need, and say so.
PYTHON ?= python3
VENV := .venv
PYTEST = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest
# Tests side by side; each of these has a lab of its own.
WORKERS ?= 3
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

.PHONY: demo demo-ipvs test test-kubernetes check setup docs test-packages kubernetes-packages lock clean

demo: setup          ## bring the lab up, break node-0's dnsmasq, watch dnsmend heal it
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab.demo

demo-ipvs: setup kubernetes-packages   ## the second incident, on virtual machines with a real kube-proxy; builds Kubernetes first
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab.demo ipvs

test: setup test-packages check   ## every test on containers as nodes; what needs a Kubernetes on virtual machines: make test-kubernetes
	$(PYTEST) -m "not kubernetes" --numprocesses=$(WORKERS) --dist=loadfile || { \
		echo "once more, one after the other: what failed while others ran beside it"; \
		$(PYTEST) -m "not kubernetes" --last-failed --last-failed-no-failures=none; }

test-kubernetes: setup test-packages kubernetes-packages   ## what needs the Kubernetes lab
	$(PYTEST) -m kubernetes

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

clean:               ## take the lab down and drop what was set up in this checkout
	-$(VENV)/bin/python -m lab down
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
