# `make run` brings everything up on a fresh machine; `make test` is what must pass before a change lands.

PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
TESTS_INSTALLED := .venv/.installed-for-tests
TEST_MODEL := smollm2-135m-instruct

# For commands that need no database: none is made for them.
WITHOUT_DATABASE := DATABASE_URL=postgres://none@127.0.0.1/none DATABASE_OWNER_URL=postgres://none@127.0.0.1/none \
	SECRET_KEY=none SECRET_SEALING_KEYS=none

.DEFAULT_GOAL := help
.PHONY: help run test lint bench chromium

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST)

run: $(INSTALLED)  ## start everything with the demo shop (WEB_PORT=8000)
	@DEMO=1 $(BIN)/python manage.py run

test: lint chromium  ## everything that must pass
	@$(WITHOUT_DATABASE) $(BIN)/python manage.py fetch_models $(TEST_MODEL) minilm-l6-v2
	$(BIN)/python -m pytest

lint: $(TESTS_INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(WITHOUT_DATABASE) $(BIN)/mypy

bench: $(TESTS_INSTALLED)  ## how long a first reply and a page of the API take; every operation under schemathesis
	$(BIN)/python -m bench.first_reply
	$(BIN)/python -m bench.api
	$(BIN)/python -m bench.openapi --max-examples 15 --phases examples,coverage,fuzzing
	$(BIN)/python -m bench.openapi --max-examples 150 --phases stateful

chromium: $(TESTS_INSTALLED)  ## a browser for the tests: the system's, else Playwright's, else the distribution's
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	|| { echo "no Chromium here: asking Playwright for its own"; timeout 300 $(BIN)/playwright install chromium; } \
	|| { test "$$(id -u)" = 0 && echo "installing the distribution's Chromium" \
	     && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } \
	|| { echo "the tests need Chromium: install it with your package manager" >&2; exit 1; }

# Torch first and alone: asked for by another package, its largest build would come. The plain CPU build where the
# package index in use offers it.
$(INSTALLED): requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing Python packages into .venv (first time: 2 to 5 minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@torch=$$(grep '^torch==' requirements.txt) \
	&& { $(BIN)/pip install -q "$$torch+cpu" 2>/dev/null || $(BIN)/pip install -q "$$torch"; }
	@$(BIN)/pip install -q -r requirements.txt
	@touch $@

$(TESTS_INSTALLED): tests/requirements.txt $(INSTALLED)
	@$(BIN)/pip install -q -r tests/requirements.txt
	@touch $@
