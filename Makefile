# Everything runs inside .venv, which `make setup` builds once and again whenever its inputs change.

ifeq ($(filter output-sync,$(.FEATURES)),)
$(error GNU make 4.0 or newer is needed. On macOS: brew install make, then gmake in place of make)
endif

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tagmask-setup
BENTO := build/bento
# What `make bento` runs in: Tagmask with the extra `serve`, without PyTorch.
BENTOML := build/bentoml

# Of `make setup`: the builds of torch to take, as uv's --torch-backend (cpu for 6 GB less, cu130, …).
TORCH :=
# Of `make serve`; given on the command line alone, as some shells have a HOST in their environment.
HOST := 127.0.0.1
PORT := 3000
MODEL :=
STORE :=
# Of the images: the container engine (docker or podman), and as build arguments, where they are set: INDEX, a package
# index in place of PyPI, CA, certificates in PEM to trust as well, and TORCH_INDEX, the index of PyTorch for CPUs.
ENGINE := docker
IMAGE = $(ENGINE) build --build-arg INDEX --build-arg CA --file
TRAINING_IMAGE = $(IMAGE) training/container/Dockerfile --build-arg TORCH_INDEX
# Tests in groups, each with a process of its own. Those of flows stay apart from others, as the threads that Prefect
# leaves in a process do not go with processes that are forked; ORCHESTRATION_TESTS are those of them that do without the
# workspace that the others share, whose training takes 40 s of CPU.
ORCHESTRATION_TESTS := $(addprefix tests/flows/,collection orchestration test_cli.py test_deployments.py) tests/examples/test_demo.py
TRAINING_TESTS := tests/training tests/benchmarks tests/examples
OTHER_TESTS := tests $(addprefix --ignore=,$(TRAINING_TESTS) tests/flows tests/service tests/packaging)
TEST_GROUPS := test-flows test-training test-orchestration test-service test-others test-packaging
# Of `make demo`: tagged photos of one's own, or where the demo keeps data, inbox and store, such as s3://bucket/prefix.
DATA :=
STORAGE :=
# Of `make schedule`, as is STORE.
CRON :=
INBOX :=
WORKSPACE :=
CONFIG :=
# An option of a command, where its variable has a value.
option = $(if $($2),$1 '$($2)')

# Several gigabytes are fetched on a first setup; uv's own limit of 30 s without a byte is too tight for a slow mirror.
export UV_HTTP_TIMEOUT ?= 300
# Without bytecode every process compiles what it imports: PyTorch and timm take 14 s of CPU instead of 6.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
# No tool that we start may report home.
export DO_NOT_TRACK := 1
export BENTOML_DO_NOT_TRACK := True
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve schedule bento image image-cuda image-training image-training-cuda test $(TEST_GROUPS) lint docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv with everything; a C++ compiler is needed (PYTHON=… names a Python 3.11 to 3.14, TORCH=cpu is smaller)

demo: setup ## train on drawn photos in demo/, serve, and learn a new tag while serving; or train on DATA=folder (STORAGE=s3://bucket/prefix: see docs/object-storage.md)
	@run() { printf '\n$$'; printf ' %q' "$$@"; echo; "$$@"; }
ifneq ($(DATA),)
	run $(BIN)/tagmask data check '$(DATA)'
	run $(BIN)/tagmask flow train '$(DATA)' --workspace demo/own --preset fast
	echo
	echo "Open $$(ls -t demo/own/runs/*/report.html | head -n 1) in a browser: masks of your photos, stage by stage."
	echo "The model is in demo/own/store. To try it on other photos, on http://localhost:3000:"
	echo "  make serve STORE=demo/own/store"
	echo "More time gives better masks: $(BIN)/tagmask flow train '$(DATA)' --preset best"
else
	run $(BIN)/python -m examples.demo draw demo/data --photos 200
	run $(BIN)/python -m examples.demo train demo $(call option,--storage,STORAGE)
	run $(BIN)/tagmask evaluate demo/run/model.onnx '$(or $(STORAGE),demo)/data' --split val
	run $(BIN)/python -m examples.demo loop demo $(call option,--storage,STORAGE)
	run $(BIN)/tagmask segment demo/data/images/00{03,07,11,15,19,23,27,31,35,39}.jpg --model demo/run/model.onnx --out demo/masks
	echo
	echo "See demo/masks (masks of the network), demo/stages (stages of its training) and demo/loop (before and after it"
	echo "learned another class). To try it in a browser, on http://localhost:3000:"
	echo "  $(if $(STORAGE),TAGMASK_STORE=$(STORAGE)/store make serve,make serve STORE=demo/workspace/store)"
	echo "Next, your own photos, in one folder per class or in a list with the columns image,tags:"
	echo "  make demo DATA=PHOTOS                              a quick training, in demo/own/"
	echo "  $(BIN)/tagmask flow train PHOTOS                a thorough one, in workspace/"
	echo "  make serve STORE=workspace/store                   serves the best model so far"
	echo "  make schedule CRON='0 3 * * *' INBOX=NEW_PHOTOS    retrains every night if there are enough new photos"
endif

serve: setup ## serve MODEL=path/to/model.onnx, the champion of STORE=folder, or a pretrained model (HOST=127.0.0.1 PORT=3000)
	exec $(BIN)/tagmask serve $(if $(or $(MODEL),$(STORE)),'$(or $(MODEL),$(STORE))') --host '$(HOST)' --port '$(PORT)'

schedule: setup ## retrain at CRON="0 3 * * *" on what is new in INBOX=folder (STORE=…, WORKSPACE=… and CONFIG=… as well)
	$(if $(and $(CRON),$(INBOX)),,$(error make schedule: say when, and where new photos arrive: make schedule CRON="0 3 * * *" INBOX=path/to/folder))
	exec $(BIN)/tagmask flow schedule '$(INBOX)' --cron '$(CRON)' \
		$(call option,--store,STORE) $(call option,--workspace,WORKSPACE) $(call option,--config,CONFIG)

bento: $(BENTOML)/.stamp ## build the service's Bento, from which the image is made, in build/bento
	version=$$($(BENTOML)/bin/python -c 'from importlib.metadata import version; print(version("tagmask"))')
	export BENTOML_HOME=$$(mktemp -d)
	trap 'rm -rf "$$BENTOML_HOME"' EXIT
	$(BENTOML)/bin/bentoml build --version "$$version" --output tag
	rm -rf $(BENTO)
	mkdir -p $(dir $(BENTO))
	mv "$$BENTOML_HOME/bentos/tagmask/$$version" $(BENTO)

$(BENTOML)/.stamp: pyproject.toml constraints.txt
	$(or $(PYTHON),python3) -m venv --clear $(BENTOML)
	$(BENTOML)/bin/pip install --quiet uv
	# Only the service itself runs DenseCRF, which would have to be compiled.
	echo "pydensecrf2; python_version < '0'" >$(BENTOML)/overrides.txt
	$(BENTOML)/bin/uv pip install --python $(BENTOML)/bin/python --constraint constraints.txt --override $(BENTOML)/overrides.txt --editable '.[serve]'
	touch $@

image: bento ## build the service's image tagmask:cpu (Docker needed; ENGINE=podman, INDEX=…, CA=…: see docs/container.md)
	$(IMAGE) service/container/Dockerfile --target cpu --tag tagmask:cpu $(BENTO)

image-cuda: bento ## build the service's image tagmask:cuda, for NVIDIA GPUs
	$(IMAGE) service/container/Dockerfile --target cuda --tag tagmask:cuda $(BENTO)

image-training: ## build the images tagmask:training, for CPUs, and tagmask:prefect
	$(TRAINING_IMAGE) --target prefect --tag tagmask:prefect .
	$(TRAINING_IMAGE) --target cpu --tag tagmask:training .

image-training-cuda: ## build the image tagmask:training-cuda, for NVIDIA GPUs
	$(TRAINING_IMAGE) --target cuda --tag tagmask:training-cuda .

test: setup ## lint and every test, several groups at a time; their output comes when they end, or in build/test-*.log
	@# Two more at a time than there are cores, as none keeps a core busy; the longest tests first, so as not to end last.
	jobs=$$(($$(getconf _NPROCESSORS_ONLN) + 2))
	$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$$jobs lint $(TEST_GROUPS)

test-flows: TESTS := tests/flows $(addprefix --ignore=,$(ORCHESTRATION_TESTS))
test-training: TESTS := $(TRAINING_TESTS) $(addprefix --ignore=,$(ORCHESTRATION_TESTS))
test-orchestration: TESTS := $(ORCHESTRATION_TESTS)
test-service: TESTS := tests/service
test-others: TESTS := $(OTHER_TESTS)
test-packaging: TESTS := tests/packaging

# Two threads of networks as small as those of tests mostly wait for each other, and take the cores of other groups.
$(TEST_GROUPS): export OMP_NUM_THREADS := 1
$(TEST_GROUPS): export MKL_NUM_THREADS := 1
$(TEST_GROUPS): setup
	@mkdir -p build
	# Tests that run make are no part of this one.
	env -u MAKEFLAGS -u MAKELEVEL $(BIN)/python -m pytest $(TESTS) 2>&1 | tee build/$@.log

test-lowest: ## tests of tagmask/, service/ and training/ with the lowest versions that pyproject.toml allows, in build/lowest
	$(or $(PYTHON),python3.11) -m venv --clear build/lowest
	build/lowest/bin/pip install --quiet uv
	build/lowest/bin/uv pip install --python build/lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	build/lowest/bin/uv pip install --python build/lowest/bin/python --no-deps --requirement tests/consumers.txt
	build/lowest/bin/python -m pytest tests/tagmask tests/service tests/training

lint: setup ## format check, ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy tagmask training service flows benchmarks examples docs/hooks.py

docs: setup ## build the site of docs/ in build/site, which opens from disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean: ## remove .venv, the demo and caches; runs stay
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ONNX Runtime with CUDA where torch may have it, in place of the one for CPUs.
GPU := $(if $(filter cpu,$(TORCH)),,$(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)))

$(STAMP): pyproject.toml constraints.txt tests/consumers.txt
	@fail() { echo "make setup: $$*" >&2; exit 1; }
	fits() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }
	# A Python that its system manages takes no packages, so where uv is missing it goes into .venv itself, or, where no
	# Python fits, into a virtual environment of its own.
	uv=uv
	if ! fits $(BIN)/python; then
		for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 ""; do
			fits "$$python" && break
		done
		if ! uv --version >/dev/null 2>&1 && [ -z "$$python" ]; then
			uv=build/uv/bin/uv
			python3 -m venv build/uv 2>/dev/null && build/uv/bin/pip install --quiet uv \
				|| fail "no Python 3.11 to 3.14, and no uv to bring one. Install either, or name a Python: make setup PYTHON=/path/to/python3.13"
		fi
		if [ -z "$$python" ]; then
			"$$uv" venv --clear --managed-python --python 3.13 $(VENV) \
				|| fail "no Python 3.11 to 3.14, and uv cannot bring one. Install one, or name it: make setup PYTHON=/path/to/python3.13"
		elif uv --version >/dev/null 2>&1; then
			uv venv --quiet --clear --python "$$("$$python" -c 'import sys; print(sys.executable)')" $(VENV)
		else
			"$$python" -m venv --clear $(VENV) || fail "$$python cannot make $(VENV). On Debian and Ubuntu: apt-get install python3-venv"
		fi
	fi
	if ! "$$uv" --version >/dev/null 2>&1; then uv=$(BIN)/uv; $(BIN)/python -m pip install --quiet uv; fi
	# pydensecrf2 comes as C++ source.
	command -v "$${CXX:-g++}" >/dev/null || fail "no C++ compiler. On Debian and Ubuntu: apt-get install g++; on macOS: xcode-select --install"
	$(BIN)/python -c 'import pathlib, sysconfig as s; pathlib.Path(s.get_path("include"), "Python.h").stat()' 2>/dev/null \
		|| fail "no Python headers (Python.h). On Debian and Ubuntu: apt-get install python3-dev"
	install=("$$uv" pip install --python $(BIN)/python --constraint constraints.txt)
	echo "onnxruntime; python_version < '0'" >$(VENV)/overrides.txt
	"$${install[@]}" $(if $(TORCH),--torch-backend '$(TORCH)') $(if $(GPU),--group gpu --override $(VENV)/overrides.txt) --editable '.[dev]'
	# The Cython that it asks for knows no Python after 3.12; the one of [dev] does.
	"$${install[@]}" --no-build-isolation-package pydensecrf2 pydensecrf2
	"$$uv" pip install --python $(BIN)/python --no-deps --requirement tests/consumers.txt
	touch $@
