# make demo        the whole loop on this machine        make demo ARGS="--seed 7"
# make test        every test                            make test ARGS="-k name"
# make lint, make bench, make bench-peers, make install, make clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_LISTS := benchmarks/attribution_peers/requirements.txt benchmarks/trl_peer/requirements.txt
ARGS ?=

BENCHMARKS := $(foreach name, \
  attribution delivery replay_files rollout beam trie update passes sharding learner advantages resume server relevance posterior weights_latency preview, \
  $(if $(wildcard benchmarks/$(name).py),$(name)))

# Where Python may not write byte code as it goes (containers often say so), every process would compile all that it imports.
BYTECODE := $(if $(PYTHONDONTWRITEBYTECODE),$(BIN)/python -m compileall -q -j 0 \
  -x '/tests?/|/testing/|transformers/models/(?!(auto|bart|gpt2|qwen3)/)' \
  $(VENV)/lib schemas streams reward trainers serving console headrace,true)

.PHONY: install demo test lint bench bench-peers clean

install: $(STAMP)

# The seconds an install took are kept for the report.
$(STAMP): pyproject.toml constraints.txt
	@begin=$$(date +%s); \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv; \
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e ".[dev]" && \
	{ $(BYTECODE) >/dev/null 2>&1 || true; } && \
	echo $$(( $$(date +%s) - begin )) > $@

demo: install
	@$(BIN)/headrace demo $(ARGS)

test: install
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/headrace schemas check

# Peers whose requirements contradict ours: the benchmarks `attribution` and `update` run them from an environment of their own.
bench-peers: $(PEERS)/.installed

$(PEERS)/.installed: $(PEERS_LISTS) | install
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install --python $(PEERS)/bin/python $(addprefix -r ,$(PEERS_LISTS))
	@touch $@

bench: install bench-peers
	@mkdir -p benchmarks/results
	@for name in $(BENCHMARKS); do \
	  echo "== $$name"; \
	  $(BIN)/python -m benchmarks.$$name --json benchmarks/results/$$name.json $(ARGS) || exit 1; \
	done

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
