# Both commands are complete on a fresh Debian machine as root: they install what they need, and say so.
PYTHON ?= python3
VENV := .venv
PACKAGES := systemd-container mmdebstrap iproute2 util-linux procps openssh-client iputils-ping dnsmasq-base bind9-dnsutils nftables python3-venv
PACKAGES_KUBERNETES := qemu-system-x86 qemu-utils e2fsprogs

.PHONY: demo test test-kubernetes check setup lock clean

demo: setup          ## bring the lab up, break node-0's dnsmasq, watch dnsmend heal it
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m lab.demo

test: setup check    ## every test on containers as nodes; what needs a Kubernetes on virtual machines: make test-kubernetes
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest -m "not kubernetes"

test-kubernetes: setup   ## what needs the Kubernetes lab
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(PACKAGES_KUBERNETES)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest -m kubernetes

check: setup         ## style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; fi
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
