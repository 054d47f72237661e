# Each target does all the set-up it needs (scripts/setup): nothing has to be installed before but git and make.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-mesh test e2e lint format bench precheck proto lock clean

BIN := .venv/bin
ROOT := scripts/as-root
# As root on Debian or Ubuntu every need of the tests can be met (a cluster aside): there, what is missing is an error.
NO_SKIP := $(shell grep -qsE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release && echo 1)
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=

help: ## say what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' Makefile | expand -t 12

setup: ## install what is missing (it is said beforehand), into .venv as far as possible
	@scripts/setup

demo: setup ## break real sidecars in network namespaces and watch; about a minute
	@$(ROOT) $(BIN)/python -m hotswitch.precheck netns envoy
	@$(ROOT) $(BIN)/hotswitch demo

demo-mesh: setup ## the same in a cluster in miniature, with the controller and kubectl; DEMO_ARGS=--stay: break things yourself
	@$(ROOT) $(BIN)/python -m hotswitch.precheck netns envoy k8s
	@$(ROOT) $(BIN)/hotswitch demo-mesh $(DEMO_ARGS)

test: ## all tests that this machine can run; it names those that it cannot
	@scripts/setup tests
	@HOTSWITCH_NO_SKIP=$(NO_SKIP) $(ROOT) $(BIN)/python -m pytest $(PYTEST_ARGS)

e2e: setup ## end to end, on a cluster that kind makes, or the one that KUBECONFIG names and that may be broken
	@scripts/e2e $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## let ruff mend layout and imports
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

bench: setup ## measure against doing nothing, the usual way, and a plain bypass
	@$(ROOT) $(BIN)/python -m hotswitch.precheck netns envoy
	@$(ROOT) $(BIN)/python -m bench $(BENCH_ARGS)

precheck: setup ## does this machine have what the tests and the demo need?
	@$(ROOT) $(BIN)/python -m hotswitch.precheck

proto: setup ## make the code of the agent's protocol anew from its .proto file
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. hotswitch/api/agent/v1/agent.proto

lock: ## write requirements/*.lock anew
	@scripts/lock

clean: ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build dist
