# make run: observe this machine's kernel, or, where BPF is refused, a lab VM's.   make test: everything CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.setup-done
# What would choose code for the Python and the shells of root; -I leaves out the current directory. pip hears PIP_* and its files still,
# in setup: a mirror may be named there.
unexport $(filter PYTHON%,$(.VARIABLES)) BASH_ENV ENV
# Nor does Python take anything from the home of whoever runs this.
export PYTHONNOUSERSITE := 1
PIP := "$(PYTHON)" -I -m pip
# With -I neither PYTHONPATH nor the user's own packages choose what root runs. pip writes no such option: not into the first line of a
# script, nor, where the path is too long for that or has blanks, into the second, which has sh run Python.
SCRIPTS := "$(VENV)/bin/ctobserve" "$(VENV)/bin/ctobserve-lab"
define ISOLATE
@sed -i -E -e '1s|/python[0-9.]*$$|& -I|' -e "2s|^('''exec' .*/python[0-9.]*\"?) \"|\1 -I \"|" $(SCRIPTS)
@for script in $(SCRIPTS); do head -n 2 "$$script" | grep -q '/python.* -I' || { echo "$$script: no place for -I in it" >&2; exit 1; }; done
endef
# By Debian's Python and bcc, with nothing of the surroundings.
IMAGE := env -i PYTHONPATH="$(CURDIR)" /usr/bin/python3 -P -m tests.image
C_FILES := $(wildcard bpf/*.c bpf/*.h bpf/arch/*.h)

.PHONY: help setup tool lab lab-doc recordings pictures json-doc image wheel sdist deb package-test container run test lint unit kernel-test test-matrix
.PHONY: on-bookworm on-trixie kernels-doc bench format clean
help: ## show the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP) ## install Debian packages and make .venv/bin/ctobserve
$(STAMP): packages.apt pyproject.toml
	tests/vm/apt-install tool host
	/usr/bin/python3 -I -m venv --system-site-packages $(VENV)
	$(PIP) install --quiet --editable '.[dev,lab]'
	$(ISOLATE)
	touch $(STAMP)

tool: ## only what ctobserve and ctobserve-lab need to run, from Debian alone: .venv/bin/ctobserve (VENV=DIR: elsewhere)
	tests/vm/apt-install tool
	$(IMAGE)
	/usr/bin/python3 -I -m venv --system-site-packages "$(VENV)"
	env -i $(PIP) --isolated install --quiet --no-build-isolation --no-index --force-reinstall --no-deps .
	$(ISOLATE)

lab: setup ## a shell in a VM with everything in place: ctobserve-lab list
	$(PYTHON) tests/vm/lab.py --shell

lab-doc: setup ## make the sessions in docs/lab.md anew, in the VM
	mkdir -p .lab
	$(PYTHON) tests/vm/lab.py --timeout 1800 -- env PYTHONPATH=$(CURDIR) $(CURDIR)/$(PYTHON) -m tests.kernel.sessions > .lab/lab.md
	cat .lab/lab.md > docs/lab.md

recordings: setup image ## play every scenario in the VM, record it, and write down what the commands say of five of them
	mkdir -p .lab
	$(PYTHON) tests/vm/lab.py --timeout 1800 -- $(IN_GUEST) sh -c '/usr/bin/python3 -m tests.kernel.recordings > /run/archive \
		2> /run/complaints && base64 /run/archive || { cat /run/complaints; exit 1; }' > .lab/recordings || { cat .lab/recordings; exit 1; }
	base64 -d .lab/recordings | tar -x --no-same-owner -C ctobserve_lab/recordings
	$(PYTHON) -m tests.told

json-doc: setup ## make docs/schema.json, the tables of docs/json.md and the index of docs/lab.md anew
	$(PYTHON) -m tests.json_doc

pictures: setup ## draw the pictures of README.md anew, by Chromium
	$(PYTHON) -m tests.pictures

image: ## compile the programs for every machine into bpf/images, which the wheel carries: then none that runs it compiles
	$(IMAGE)

wheel: setup image ## the package with its compiled programs, into .lab/wheel
	rm -rf .lab/wheel
	$(PIP) wheel --quiet --no-build-isolation --no-index --no-deps --wheel-dir .lab/wheel .

sdist: ## the sources with the compiled programs, into .lab/sdist: of these pip and Debian's tools build
	tests/vm/apt-install tool
	$(IMAGE)
	rm -rf .lab/sdist
	env -i /usr/bin/python3 -I -m hatchling build --target sdist --directory .lab/sdist

deb: sdist ## the Debian packages, into .lab/deb, found clean by lintian
	tests/vm/apt-install package
	rm -rf .lab/deb
	mkdir -p .lab/deb
	tar -xzf .lab/sdist/ctobserve-*.tar.gz -C .lab/deb --no-same-owner
	cd .lab/deb/ctobserve-* && env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 dpkg-buildpackage --no-sign
	rm -r .lab/deb/ctobserve-*/
	lintian --fail-on error,warning,info --display-info --tag-display-limit 0 .lab/deb/*.changes

package-test: setup deb wheel ## the packages in clean roots of Debian 12 and 13, and on a real kernel; wheel and sources by pip
	$(PYTHON) -m pytest -rP tests/packages

container: wheel ## the root of the container image as its Dockerfile has it, into .lab/image by mmdebstrap, and Prometheus: for test-matrix
	$(PYTHON) tests/vm/container.py
	$(PYTHON) -m tests.prometheus

run: setup ## report on a real kernel: its table, bucket distribution and drops
	$(PYTHON) tests/vm/demo.py

test: lint unit kernel-test ## lint, types, unit tests, then the kernel tests in the lab VM

lint: setup ## ruff, mypy, clang-format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	clang-format --dry-run --Werror $(C_FILES)

unit: setup ## tests that need no kernel that admits BPF; those of hostile surroundings need root
	$(PYTHON) -m pytest -n auto tests/unit

IN_GUEST := env CTOBSERVE_KERNEL_TESTS=1 PYTHONPATH=$(CURDIR)
# Debian's Python sees no packages but Debian's: what a bare host has, and a start costs less than in the venv.
PYTEST := /usr/bin/python3 -m pytest -p no:cacheprovider --durations=30
# What takes long test-matrix alone plays: what is around the programs (services, containers, Prometheus, rights, owners, the flight
# recorder, the lab's page), compiling in the guest, and each form on each kernel. Here kprobes hang on 6.1, trampolines on 6.12, where
# the exporter is tested whole.
AROUND := units.py container.py watched.py capabilities.py owner.py flight_recorder.py lab_doc.py
LONG_ONES := $(addprefix --ignore=tests/kernel/test_,$(AROUND)) \
  --deselect tests/kernel/test_images.py::test_without_images_they_are_compiled_here_and_kept
# What does not depend on the kernel's version is tested on one.
ON_6_1 := $(LONG_ONES) -k 'not fentry and (not test_export or every_series)' \
  $(addprefix --ignore=tests/kernel/test_,expectations.py lines.py why.py)
ON_6_12 := $(LONG_ONES) -k 'not kprobe and not between and not every_loss and not evicted_and_refused' \
  $(addprefix --ignore=tests/kernel/test_,command_line.py hostile.py size.py top.py terminal.py lab.py)

# Two machines at once: an emulated one keeps little more than one core busy. The output of each comes when it has ended. tests/vm comes
# before: it compiles what both read. Each plays a few of the incidents: of all the unit tests know the verdicts by its recording, and
# test-matrix plays all on both.
kernel-test: wheel ## tests/kernel in VMs: Debian 12 (6.1, bcc 0.26), Debian 13 (6.12, bcc 0.31) without the command line
	$(PYTHON) -m pytest tests/vm
	+$(MAKE) --jobs=2 --output-sync=target --no-print-directory on-bookworm on-trixie

on-bookworm:
	$(PYTHON) tests/vm/lab.py --timeout 4400 -- $(IN_GUEST) CTOBSERVE_PART=1/9 $(PYTEST) tests/kernel $(ON_6_1)

on-trixie:
	$(PYTHON) tests/vm/lab.py --machine x86_64-6.12 --timeout 4400 -- $(IN_GUEST) CTOBSERVE_PART=5/9 $(PYTEST) tests/kernel $(ON_6_12)

# What takes long: the kernel tier on every kernel; starts under load, random work with proofs and every incident on two.
LONG := $(IN_GUEST) CTOBSERVE_STARTS=20 CTOBSERVE_PROPERTY_S=300 $(PYTEST) $(addprefix tests/kernel/test_,starts.py property.py report.py)
test-matrix: package-test container ## the packages, then the kernel tier on every kernel (MACHINES='x86_64-5.10 ...': on these), then the long runs: about five hours
	tests/vm/apt-install matrix
	$(PYTHON) -m tests.matrix.run $(MACHINES)
	$(PYTHON) tests/vm/lab.py --timeout 3000 -- $(LONG)
	$(PYTHON) tests/vm/lab.py --machine x86_64-6.12 --timeout 3000 -- $(LONG)
	$(PIP) install --quiet 'pyspark>=4'
	$(PYTHON) -m pytest tests/fleet
	CTOBSERVE_FLIGHT_DAYS=30 CTOBSERVE_KILLS=100 $(PYTHON) -m pytest tests/unit/test_flight.py tests/unit/test_flight_damage.py -k 'days or killed'
	CTOBSERVE_SCRAPES=10000 $(PYTHON) -m pytest tests/unit/test_metrics_months.py

kernels-doc: setup ## make docs/kernels.md and README's table of kernels anew, from what the last matrix kept
	$(PYTHON) -m tests.matrix.pages

bench: setup image ## what observing costs, in instructions, with bars met and missed: docs/cost.md; no test
	$(PYTHON) -m bench

format: setup ## rewrite sources in the house format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	clang-format -i $(C_FILES)

clean: ## remove what setup and tests made
	rm -rf $(VENV) .lab bpf/images build dist *.egg-info
