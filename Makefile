# make figures            the default configuration, on this machine
# make figures CONFIG=config/smoke.yaml
# make test               all tests, two files at a time; WORKERS=8 for more
# make test-fast          without those that start workflows, compare with oracles or are marked slow: for the hand
# make bench              how fast it is here, about 25 minutes; writes benchmarks/README.md
PYTHON ?= python3
CONFIG ?=
CORES ?= all
WORKERS ?= 2
VENV := .venv
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
SNAKEMAKE := $(VENV)/bin/snakemake all_figures --cores $(CORES) $(if $(filter-out 0,$(GPUS)),--resources gpu=$(GPUS)) \
	$(if $(CONFIG),--configfile $(CONFIG))

.PHONY: figures report test test-fast bench check reference clean

figures: $(VENV)/installed
	$(SNAKEMAKE)

report: $(VENV)/installed
	$(SNAKEMAKE) --report report.html

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow" tests/unit

bench: $(VENV)/installed
	$(VENV)/bin/python benchmarks/bench.py

check: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint

$(VENV)/installed: pyproject.toml envs/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint envs/constraints.txt --editable ".[dev]"
	touch $@

# Makes the tables of the manual and the schema for editors anew, after a declaration has changed.
reference: $(VENV)/installed
	$(VENV)/bin/python -m sgdline.config.reference

clean:
	rm -rf $(VENV) .snakemake
