# Each target sets itself up in a virtual environment; Python 3.10 or newer and make are enough.
PYTHON ?= python3
# What pip may install; CONSTRAINTS=/dev/null takes the newest.
CONSTRAINTS ?= constraints.txt
# Another Python has another environment: PYTHON=python3.12 make test
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
PIP := python -m pip install --quiet --disable-pip-version-check
PIP_INSTALL := $(VENV)/bin/$(PIP) -c $(CONSTRAINTS)

# Tests of one file share what they set up. By itself xdist begins with the files that have the most
# tests; those with few have the longest, and would come last.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# What runs the tests of the oldest dependencies; it is new itself.
TEST_TOOLS := pytest pytest-xdist hypothesis

# Pyright's complaints that each folder may have, and the core none: lower a number, never raise it.
PYRIGHT_AT_MOST := backends=34 adapters=9

# How many mutants `make fuzz` and `make trust` read; 2000 take a minute or two.
FUZZ_MUTANTS ?= 20000

# Which mutants `make mutants` tries; by name: MUTANTS='flain_core.stop.*'
MUTANTS ?=

.PHONY: demo test test-fast test-floors test-floors-torch test-floors-keras test-floors-stacks check pyright mutants bench accelerator full parity reference site figures fuzz kills trust dist release example clean

demo: $(VENV)/cli  ## purify the embedded backdoored model
	$(VENV)/bin/flain demo

test: $(VENV)/dev  ## every test, and how much of the core they run
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) --cov

test-fast: $(VENV)/dev  ## the tests that take seconds
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) -m "not slow"

test-floors:  ## what needs no large framework, with the oldest dependencies that are allowed
	$(PYTHON) -m venv $(VENV)-floors
	$(VENV)-floors/bin/$(PIP) -c constraints-floors.txt -e ".[cli,onnx,sklearn,report]" \
		onnxscript $(TEST_TOOLS)
	$(VENV)-floors/bin/python -m pytest $(IN_PARALLEL) flain_core backends/flain_numpy \
		backends/flain_onnx backends/flain_sklearn tests/core tests/backends/test_numpy.py \
		tests/backends/test_numpy_files.py tests/backends/test_numpy_operations.py \
		tests/backends/test_numpy_refused.py tests/backends/test_conformance_numpy.py \
		tests/backends/test_onnx.py tests/backends/test_onnx_bias.py \
		tests/backends/test_onnx_example.py tests/backends/test_onnx_inputs.py \
		tests/backends/test_onnx_pairing.py tests/backends/test_onnx_refused.py \
		tests/backends/test_onnx_round_trips.py \
		tests/backends/test_conformance_onnx.py tests/backends/test_conformance_third_party.py \
		tests/backends/test_sklearn.py tests/backends/test_conformance_sklearn.py \
		tests/adapters tests/examples -m "not slow"

test-floors-torch:  ## the same of PyTorch; on Linux its plain wheels bring gigabytes of CUDA
	$(PYTHON) -m venv $(VENV)-floors-torch
	$(VENV)-floors-torch/bin/$(PIP) -c constraints-floors.txt -e ".[torch]" $(TEST_TOOLS)
	$(VENV)-floors-torch/bin/python -m pytest $(IN_PARALLEL) backends/flain_torch \
		tests/backends/test_torch.py tests/backends/test_torch_arrays.py \
		tests/backends/test_torch_bias.py tests/backends/test_torch_copies.py \
		tests/backends/test_torch_data.py tests/backends/test_torch_devices.py \
		tests/backends/test_torch_faithful.py tests/backends/test_torch_files.py \
		tests/backends/test_torch_refused.py tests/backends/test_torch_scores.py \
		tests/backends/test_conformance_torch.py -m "not slow"

test-floors-keras:  ## the same of Keras, on TensorFlow and JAX
	$(PYTHON) -m venv $(VENV)-floors-keras
	$(VENV)-floors-keras/bin/$(PIP) -c constraints-floors-keras.txt -e ".[keras]" \
		tensorflow-cpu jax $(TEST_TOOLS)
	$(VENV)-floors-keras/bin/python -m pytest $(IN_PARALLEL) \
		tests/backends/test_keras.py tests/backends/test_conformance_keras.py

test-floors-stacks:  ## the same of Flower, NVIDIA FLARE and Ray, with a newer PyTorch to train
	$(PYTHON) -m venv $(VENV)-floors-stacks
	$(VENV)-floors-stacks/bin/$(PIP) -c constraints-floors-stacks.txt \
		-e ".[cli,flower,nvflare,ray,torch]" $(TEST_TOOLS)
	$(VENV)-floors-stacks/bin/python -m pytest $(IN_PARALLEL) adapters/flain_flower \
		adapters/flain_nvflare adapters/flain_ray tests/adapters/test_flower.py \
		tests/adapters/test_flower_failures.py tests/adapters/test_flower_kept.py \
		tests/adapters/test_flower_node_failures.py \
		tests/adapters/test_flower_trusted_nodes.py \
		tests/adapters/test_flower_trusted_simulation.py tests/adapters/test_flower_app.py \
		tests/adapters/test_nvflare.py tests/adapters/test_nvflare_failures.py \
		tests/adapters/test_nvflare_jobs.py tests/adapters/test_ray.py \
		tests/adapters/test_ray_models.py tests/adapters/test_ray_failures.py \
		tests/adapters/test_ray_alone.py tests/adapters/test_ray_scripts.py

check: $(VENV)/dev pyright  ## lint, format, spelling, types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy

pyright: $(VENV)/dev  ## a second opinion on types: the core clean, the rest no worse than it was
	$(VENV)/bin/python .ci/complaints.py flain_core=0 $(PYRIGHT_AT_MOST)

mutants:  ## the arithmetic changed in one place at a time: which changes no test notices; hours for all
	$(PYTHON) -m venv $(VENV)-mutants
	$(VENV)-mutants/bin/$(PIP) -c $(CONSTRAINTS) -e ".[threads]" pytest hypothesis "mutmut>=3.8,<4"
	OMP_NUM_THREADS=1 $(VENV)-mutants/bin/mutmut run --max-children 2 $(MUTANTS)
	$(VENV)-mutants/bin/mutmut results | grep -v 'not checked' || echo 'none survived'

bench: $(VENV)/dev  ## the search against plain re-evaluation; writes benchmarks/results
	$(VENV)/bin/python benchmarks/search_speed.py
	$(VENV)/bin/python benchmarks/backend_speed.py

accelerator: $(VENV)/dev  ## a CUDA device against the CPU; says so where there is none
	$(VENV)/bin/python benchmarks/accelerator.py

full: $(VENV)/dev  ## the published CIFAR-10 network on a CUDA device: trained, attacked, defended; needs FLAIN_DATA
	$(VENV)/bin/python -m benchmarks.defence run --profile full --jobs 8
	$(VENV)/bin/python -m benchmarks.defence render --profile full

parity: $(VENV)/dev  ## the same networks in every framework; writes docs/parity.md
	$(VENV)/bin/python benchmarks/parity.py

reference: $(VENV)/dev  ## the command's reference, from the command; writes docs/command-line.md
	$(VENV)/bin/python -m flain_cli.reference docs/command-line.md

site: $(VENV)/dev  ## the documentation as a site, in site/
	$(VENV)/bin/python -m mkdocs build --strict

fuzz: $(VENV)/dev  ## mutants of every format, each read in a child process with limits
	$(VENV)/bin/python -m benchmarks.trust fuzz --mutants $(FUZZ_MUTANTS)

kills: $(VENV)/dev  ## writes killed at every file event, full disks, Ctrl-C at random moments
	$(VENV)/bin/python -m benchmarks.trust kills

trust: $(VENV)/dev  ## all of these, in one table; writes it into docs/security.md
	$(VENV)/bin/python -m benchmarks.trust all --mutants $(FUZZ_MUTANTS) --write

dist: $(VENV)/dev  ## the wheel and the sdist in dist/, checked as a package index checks them
	rm -rf dist
	$(VENV)/bin/python -m build --outdir dist
	$(VENV)/bin/twine check --strict dist/*
	$(VENV)/bin/check-wheel-contents dist/*.whl

release: dist  ## the same, and the repository has an address
	$(VENV)/bin/python .ci/address.py

figures: $(VENV)/dev  ## the drawings and the README's table; the table is of docs/how-well.md
	$(VENV)/bin/python -m benchmarks.drawings
	$(VENV)/bin/python benchmarks/readme_figures.py

example: $(VENV)/dev  ## train the embedded example anew and export it; needs FLAIN_DATA
	$(VENV)/bin/python benchmarks/train_example.py --out adapters/flain_cli/data

clean:
	rm -rf dist site mutants $(VENV) $(VENV)-floors $(VENV)-floors-torch $(VENV)-floors-keras \
		$(VENV)-floors-stacks $(VENV)-mutants

$(VENV)/cli: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo 'installing ".[cli,onnx]" into $(VENV): what the command needs'
	$(PIP_INSTALL) -e ".[cli,onnx]"
	@touch $@

$(VENV)/dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo 'installing ".[dev]" into $(VENV): every framework and tool; the first time takes many minutes'
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/cli

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
