# make demo    a page to try, on the embedded broker (PORT=8000, HOST=127.0.0.1)
# make test    every check: lint, types, the browser client, all tests
# make test-quick    the tests that need Python and nothing else: no apt, no browser, no server; half a minute
# make test-matrix   the tests of the Django side on each supported pair of Python and Django (PAIRS=4.2: of one version)
# make test-faults   the fault tests at full size, for docs/reliability.md, and every case of the other tests' matrices;
#                    a new Wagtail project (tests/test_wagtail.py) too: it needs PyPI, so neither CI nor make test has it
# make lint    linters and types; make format repairs what can be repaired
# make docs    the documentation as a site, in build/site; it opens from the disk and needs no network
# make bench   the service beside other servers: about 10 minutes on a quiet machine, for docs/performance.md
# make dist    wheel and sdist, in dist/; make image the container image `notifier`
# make pin     the digest of the base image into the Dockerfiles; make image-archive the image with provenance, as a file
# make sbom    what the image installs as CycloneDX, in build/sbom.json; make audit asks whether any of it is vulnerable
# make clean   removes the files that these create

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
SERVER := $(VENV)/.installed-server
DEV := $(VENV)/.installed-dev
NODE := node_modules/.installed
HELM := build/helm
IMAGE := build/image
RELEASE := build/release
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DELETE_ON_ERROR:
.PHONY: demo test test-client test-quick test-matrix test-faults lint lint-python lint-client format docs bench dist image image-archive pin sbom audit clean system

# Exit code 130: the process was ended with Ctrl-C, which is no failure.
demo: $(SERVER)
	@env -u NOTIFIER_REDIS_URL $(BIN)/notifier serve --dev --host $(HOST) --port $(PORT) || test $$? -eq 130

# The system's packages come first: a missing one is reported before anything is downloaded. What Python and what Node
# installs and checks go side by side.
test: system
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=recurse lint test-client $(HELM)
	$(BIN)/python -m tools.side_by_side

test-client: lint-client
	npm test

test-quick: $(DEV)
	$(BIN)/python -m tools.quick

lint: lint-python lint-client

lint-python: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-client: $(NODE)
	npm run check

format: $(DEV) $(NODE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	npm run format

test-matrix: system $(NODE)
	$(PYTHON) -m tools.matrix $(PAIRS)

# Runs the fault tests of `make test` at full size, and the tests of which `make test` leaves cases out; writes the table
# of docs/reliability.md.
test-faults: system $(DEV)
	rm -f tests/output/faults.json
	NOTIFIER_FAULTS=full $(BIN)/python -m pytest -p tools.no_skips --timeout 600 tests/faults
	NOTIFIER_FAULTS=full $(BIN)/python -m pytest -p tools.no_skips --timeout 600 -m full
	$(BIN)/python -m tools.reliability

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

bench: system $(DEV)
	@tools/install-test-packages bench
	$(BIN)/python -m bench
	$(BIN)/python -m bench.model

dist: $(DEV)
	$(BIN)/python -m build --outdir dist

image:
	docker build --tag notifier .

# Needs a builder that writes attestations: docker buildx create --use --driver docker-container
image-archive:
	@mkdir -p build
	docker buildx build --provenance=mode=max --sbom=true --output type=oci,dest=build/notifier.tar --tag notifier .

pin:
	@$(PYTHON) -m tools.base_image Dockerfile examples/django_project/Dockerfile

sbom:
	@rm -f build/sbom.json
	@$(MAKE) --no-print-directory build/sbom.json

# Of the same packages as the last `make sbom`.
audit: build/sbom.json
	@$(RELEASE)/bin/python -m tools.audit $(IMAGE)/bin/python $(AUDIT)

clean:
	rm -rf $(VENV) node_modules build dist types tests/output .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@tools/install-test-packages

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# An editable install follows the sources; it is repeated only if the dependencies change.
$(SERVER): pyproject.toml | $(BIN)/python
	$(PIP) -e '.[server]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(SERVER)

$(RELEASE)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check '.[release]'
	@touch $@

# The packages of the image, installed as the Dockerfile does.
build/sbom.json: pyproject.toml | $(RELEASE)/.installed
	@rm -rf $(IMAGE)
	$(PYTHON) -m venv --without-pip $(IMAGE)
	$(RELEASE)/bin/python -m pip --python $(IMAGE)/bin/python install --quiet ".[server]"
	@$(RELEASE)/bin/python -m tools.sbom $(IMAGE)/bin/python $@

# For the tests of deploy/chart.
$(HELM): tools/helm.py | $(DEV)
	$(BIN)/python -m tools.helm $@

$(NODE): package.json tests/typescript/package.json
	npm install --install-links --no-audit --no-fund --no-package-lock --loglevel=error
	@touch $@
