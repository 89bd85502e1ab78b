# Two commands do everything: `make run` and `make test`. Both call `make setup`, the only place that installs.
# Debian 12 or newer, as root (or with sudo).

SHELL := /bin/bash
PYTHON := /usr/bin/python3
VENV := .venv
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# What the appliance runs on. bcc's Python half belongs to the machine's libbcc: it is not on PyPI.
PACKAGES := python3-bpfcc python3-systemd python3-venv ca-certificates
# What its tests and benchmarks run against: real parts.
TEST_PACKAGES := chromium docker.io podman containerd containernetworking-plugins mmdebstrap rsyslog rsyslog-gnutls logrotate nginx-light faketime gcc libc6-dev qemu-system-x86 e2fsprogs openssl jq util-linux systemd procps iproute2 git strace make perl openssh-client curl wget bzip2 xz-utils
# Real servers that the hub's outputs deliver to in tests.
TEST_PACKAGES += redis-server postgresql mosquitto rabbitmq-server influxdb prometheus-alertmanager
# What builds the Debian package and judges it.
DEB_PACKAGES := dpkg-dev debhelper dh-python lintian
DEB_PACKAGES_arm64 := binutils-aarch64-linux-gnu
DEB_PACKAGES_amd64 := binutils-x86-64-linux-gnu

.PHONY: check hub demo setup-hub vendor nightly run test test-kernels test-releases molecule molecule-default dist dist-hub deb setup setup-test man clean
.SILENT:

run: setup
	exec $(VENV)/bin/tercel run $(ARGS)

# A hub on the loopback with this host's agent attached, or with a day of a fictitious fleet: prints the address and a
# one-time password. Ctrl-C ends it.
hub: setup-hub
	exec $(VENV)/bin/python packaging/try_hub.py $(ARGS)

demo: setup-hub
	exec $(VENV)/bin/python packaging/try_hub.py --demo $(ARGS)

test: setup-test
	exec $(VENV)/bin/python -m pytest $(ARGS)

# What a change must pass before it is shown to others, in two minutes: formatter, linter, types, architecture, docs, and
# the tests that need neither root nor servers.
check: setup-test
	exec $(VENV)/bin/python -m pytest -q -n 2 -m "not kernel and not docker and not systemd and not molecule" --ignore=tests/packaging --ignore=tests/roles --ignore=tests/molecule --ignore=tests/daemon --ignore=tests/sources --ignore=tests/sinks --ignore=tests/hub/web --ignore=tests/hub/outputs/test_services.py --ignore=tests/hub/outputs/test_fuzzed.py --ignore=tests/kernel --ignore=tests/test_examples.py $(ARGS)

# The kernels of Debian 11, 12 and 13, each in a machine of its own: for every night, not for every change.
test-kernels: setup-test
	TERCEL_KERNELS="bullseye bookworm trixie" exec $(VENV)/bin/python -m pytest -v tests/kernel/test_vm.py $(ARGS)

# The wheelhouse and the Debian package, installed on Debian 12 and 13, upgraded and downgraded: for every night.
test-releases: setup-test
	TERCEL_RELEASES="bookworm trixie" exec $(VENV)/bin/python -m pytest -v tests/packaging $(ARGS)

# The roles on virtual machines of their own (molecule/): one scenario, or all. `.venv/bin/molecule login -s default` and
# the like need .venv/bin on PATH, too.
molecule-default: setup-test dist
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH exec $(VENV)/bin/molecule test -s default $(ARGS)

molecule: setup-test dist
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH exec $(VENV)/bin/molecule test --all $(ARGS)

# What takes too long for every change: ten minutes of each fuzzer, a spool killed 1,000 times and one with 100,000 alerts,
# 100 reloads under 50,000 events a second. docs/testing.md has the last results.
nightly: setup-test
	$(VENV)/bin/python tests/lang/fuzz.py --seconds 600
	$(VENV)/bin/python tests/config/fuzz.py --seconds 600
	TERCEL_FUZZ_S=600 $(VENV)/bin/python -m pytest -q tests/sources/test_k8saudit.py -k no_bytes
	TERCEL_FLEET=1 $(VENV)/bin/python -m pytest -q tests/roles/test_roles.py
	TERCEL_NIGHTLY=1 $(VENV)/bin/python -m pytest -q tests/sinks/test_spool.py tests/hub/journal tests/hub/outputs/test_fuzzed.py
	TERCEL_NIGHTLY=1 $(VENV)/bin/python -m pytest -q tests/hub/web/test_browser.py
	$(VENV)/bin/python bench/hub_ingest.py
	$(VENV)/bin/python bench/hub_isolation.py
	TERCEL_NIGHTLY=1 $(VENV)/bin/python -m pytest -q $$(grep -rl '^@given' tests --include=*.py)
	$(VENV)/bin/python bench/reload.py
	TERCEL_MOLECULE=default $(VENV)/bin/python -m pytest -q tests/molecule

setup: $(VENV)/.ready

setup-test: $(VENV)/.ready-test

setup-hub: $(VENV)/.ready-hub

$(VENV)/.ready: pyproject.toml
	$(call install_missing,$(PACKAGES))
	[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install --retries 10 --timeout 60 --quiet --disable-pip-version-check --root-user-action=ignore --editable .
	$(VENV)/bin/python -c 'import bcc, systemd.journal'
	touch $@

$(VENV)/.ready-hub: $(VENV)/.ready
	$(VENV)/bin/python -m pip install --retries 10 --timeout 60 --quiet --disable-pip-version-check --root-user-action=ignore --editable '.[hub,hub-parquet]'
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready Makefile
	$(call install_missing,$(TEST_PACKAGES) $(DEB_PACKAGES) $(DEB_PACKAGES_arm64))
	$(VENV)/bin/python -m pip install --retries 10 --timeout 60 --quiet --disable-pip-version-check --root-user-action=ignore --editable '.[dev]'
	$(VENV)/bin/python -m tests.support.fetch
	touch $@

# What machines are installed from without a network: dist/wheelhouse. docs/installing.md.
dist: setup
	$(VENV)/bin/python packaging/dist.py wheelhouse

# What a hub is installed from beside it: dist/wheelhouse-hub. docs/installing.md.
dist-hub: setup
	$(VENV)/bin/python packaging/dist.py hub

# The Debian package: dist/tercel_VERSION_ARCH.deb. For another architecture: `make deb ARCH=arm64`.
deb: dist
	$(call install_missing,$(DEB_PACKAGES) $(DEB_PACKAGES_$(ARCH)))
	$(VENV)/bin/python packaging/dist.py deb $(ARCH)

# The page's foreign assets, made again from npm at pinned versions.
vendor: setup
	$(VENV)/bin/python packaging/vendor.py $(ARGS)

# The manual pages and the shells' completions, made of the command's own options and the schema of its configuration.
man: setup-test
	$(VENV)/bin/python -m appliance.cli.manual docs/man
	$(VENV)/bin/python -c 'from appliance.hub.outputs.manual import page; print(page(), end="")' >docs/outputs.md
	$(VENV)/bin/tercel completion bash >packaging/completions/tercel.bash
	$(VENV)/bin/tercel completion zsh >packaging/completions/_tercel
	$(VENV)/bin/tercel completion fish >packaging/completions/tercel.fish

clean:
	rm -rf $(VENV) build dist *.egg-info

# Install what is not installed; start no service by it (this may be a machine without systemd, and tests start their
# own). policy-rc.d is Debian's own way to say so, and is put back as it was.
define install_missing
missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
	echo "installing" $$missing >&2; \
	policy=/usr/sbin/policy-rc.d; \
	[ -e $$policy ] || { made=1; printf '#!/bin/sh\nexit 101\n' | $(SUDO) tee $$policy >/dev/null; $(SUDO) chmod 755 $$policy; }; \
	log=$$(mktemp); status=0; \
	{ $(SUDO) apt-get -o Acquire::Retries=8 update && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get -o Acquire::Retries=8 install --yes --no-install-recommends $$missing; } </dev/null >$$log 2>&1 || { status=1; cat $$log >&2; }; \
	rm -f $$log; [ -z "$$made" ] || $(SUDO) rm -f $$policy; \
	[ $$status = 0 ]; \
fi
endef
