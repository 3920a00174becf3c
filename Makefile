# libironic_disk: `make demo` runs the main job from one end to the other, `make test` shows what has to hold.
# Both install what they need first, and say so; on a machine that has it, neither uses the network.

# Debian's own Python, whatever else is on PATH: the system packages of bindep.txt are built for it.
PYTHON ?= /usr/bin/python3
VENV ?= .venv
BOOT ?= bios
SECONDS ?= 600
SEEDS ?= 500
FIRST ?= 1
DEPLOYMENTS ?= 1000
STEPS ?= 5
MACHINES ?= 2

BIN := $(VENV)/bin
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo env PYTHONDONTWRITEBYTECODE=1)
PYTEST := $(SUDO) $(BIN)/python -m pytest
WALK := $(SUDO) nice -n 10 $(BIN)/python -m pytest --fault-table docs/faults.csv
CODE := $(wildcard libironic_disk lab examples benchmarks tests)

# Debian's file system and GRUB programs are here, and a plain `su` leaves it out.
export PATH := $(PATH):/usr/sbin:/sbin

# The virtual environment is known by what it was made from, so that a fresh checkout's file times do not matter.
SOURCES := setup.cfg pyproject.toml constraints.txt
STAMP := $(VENV)/.installed-$(shell (echo $(CURDIR) $(PYTHON); cat $(SOURCES)) | sha256sum | cut -c 1-16)

.PHONY: help demo test lint types docs unit loopdevices machines test-machine faults soak long-life fuzz bench venv system constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: PROFILES += demo
demo: venv ## deploy a Debian and boot it in QEMU, then two on one disk, and switch between them (BOOT=bios or uefi)
	$(SUDO) $(BIN)/python -m examples.demo --boot $(BOOT)

test: PROFILES += demo test
test: lint types docs ## lint, types, docs, then the tests as root, those in QEMU beside the others: a boot of each kind
	tools/test-in-parts $(PYTEST)

lint: venv ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy --strict
	$(BIN)/mypy $(CODE)

docs: venv ## build the documentation; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

unit: venv ## the tests that need neither loop devices nor QEMU
	$(PYTEST) -m 'not loopdevice and not machine and not walk'

loopdevices: PROFILES += test
loopdevices: venv ## the tests on loop devices
	$(PYTEST) -m 'loopdevice and not machine and not walk'

machines: PROFILES += demo test
machines: venv ## all tests that run in QEMU, those too that `make test` leaves out
	$(PYTEST) -m 'machine and not walk' --full

test-machine: PROFILES += test
test-machine: venv ## all tests on disks in test machines: Debian's own kernel in QEMU, with udevd and EFI variables
	$(PYTEST) --inside --machines $(MACHINES) -m 'not walk' tests/loopdevices tests/machines/inside

faults: PROFILES += test
faults: venv ## walk faults through the calls, and write docs/faults.csv: make faults STEPS=5, or STEPS=every
	$(WALK) tests/loopdevices/faults tests/loopdevices/powercuts --fault-steps $(STEPS)
	$(WALK) tests/machines/inside --inside -m walk

soak: PROFILES += test
soak: venv ## deploy and switch by chance: make soak SEEDS=500 FIRST=1
	$(SUDO) nice -n 10 $(BIN)/python -m tests.soak --first $(FIRST) --seeds $(SEEDS)

long-life: PROFILES += test
long-life: venv ## many deployments in one process, and what it holds: make long-life DEPLOYMENTS=1000
	$(SUDO) nice -n 10 $(BIN)/python -m tests.longlife --deployments $(DEPLOYMENTS)

fuzz: PROFILES += test
fuzz: venv ## look for inputs that are read wrongly: make fuzz TARGET="tables http" SECONDS=600; all in turn by default
	$(SUDO) $(BIN)/python -m tests.fuzz $(TARGET) --seconds $(SECONDS)

bench: PROFILES += bench test
bench: venv ## the benchmarks, next to others' programs
	$(SUDO) $(BIN)/python -m benchmarks

venv: $(STAMP)

$(STAMP): | system
	@echo "$(VENV): installing the versions of constraints.txt"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt pip setuptools wheel
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation \
		--editable '.[demo,docs,test]'
	rm -f $(VENV)/.installed-*
	touch $@

system: PROFILES += build
system:
	@tools/install-system-packages $(sort $(PROFILES))

constraints: ## take the newest versions of everything into constraints.txt
	tools/pin-versions $(PYTHON)

clean: ## remove everything that was made here, the Debian image too
	$(SUDO) rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build *.egg-info
	find . -name __pycache__ -prune -exec $(SUDO) rm -rf {} +
