# Each target sets itself up in a virtual environment; Python 3.10 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Tests of one file share what they set up.
IN_PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-fast test-floors check bench parity example clean

demo: $(VENV)/cli  ## purify the embedded backdoored model
	$(VENV)/bin/flain demo

test: $(VENV)/dev  ## every test
	$(VENV)/bin/python -m pytest $(IN_PARALLEL)

test-fast: $(VENV)/dev  ## the tests that take seconds
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) -m "not slow"

test-floors:  ## what needs no large framework, with the oldest dependencies that are allowed
	$(PYTHON) -m venv $(VENV)-floors
	$(VENV)-floors/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints-floors.txt -e ".[cli,onnx,sklearn]" pytest hypothesis
	$(VENV)-floors/bin/python -m pytest flain_core backends/flain_numpy backends/flain_onnx \
		backends/flain_sklearn tests/core tests/backends/test_numpy.py \
		tests/backends/test_conformance_numpy.py tests/backends/test_onnx.py \
		tests/backends/test_conformance_onnx.py tests/backends/test_conformance_third_party.py \
		tests/backends/test_sklearn.py tests/backends/test_conformance_sklearn.py \
		tests/adapters tests/examples -m "not slow"

check: $(VENV)/dev  ## lint, format, types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: $(VENV)/dev  ## the search against plain re-evaluation; writes benchmarks/results
	$(VENV)/bin/python benchmarks/search_speed.py
	$(VENV)/bin/python benchmarks/backend_speed.py

parity: $(VENV)/dev  ## the same networks in every framework; writes docs/parity.md
	$(VENV)/bin/python benchmarks/parity.py

example: $(VENV)/dev  ## train the embedded example anew and export it; needs FLAIN_DATA
	$(VENV)/bin/python benchmarks/train_example.py --out adapters/flain_cli/data

clean:
	rm -rf $(VENV) $(VENV)-floors

$(VENV)/cli: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[cli,onnx]"
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/cli

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
