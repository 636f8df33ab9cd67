# The few commands of this project; CI runs the same ones.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/debug/millstream
VENV := $(abspath $(CARGO_TARGET_DIR))/venv

.PHONY: help demo build test test-s3 lint fmt bench tpch soak soak-views fuzz slt need-cargo need-cc need-python

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build ## replay real flights and answer questions about them (ARGS=--once exits afterwards)
	@$(BIN) demo $(ARGS)

build: need-cargo need-cc
	@test -x $(BIN) || echo "building; the first time this takes about ten minutes on two cores"
	@cargo build --locked --package millstream

test: need-cargo need-cc need-python ## every test
	@scripts/test-env.sh $(VENV)
	@cargo test --locked --workspace
	@if [ -d tests/clients ]; then MILLSTREAM_BIN=$(abspath $(BIN)) $(VENV)/bin/python -m pytest -q -rs tests/clients; fi

test-s3: need-cargo need-cc need-python ## the lake's, the engine's and the SQL tests again, with the lake on an S3 server that they start
	@scripts/test-env.sh $(VENV)
	@MILLSTREAM_TEST_LAKE=s3 cargo test --locked --package millstream --package millstream-store --test lake
	@MILLSTREAM_TEST_LAKE=s3 cargo test --locked --package millstream --package millstream-process --test engine --test slt
	@cargo test --locked --package millstream --test crash s3

lint: need-cargo need-cc ## formatting, clippy and rustdoc, warnings denied
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

slt: need-cargo need-cc ## write the answers found into tests/slt; look at the difference before keeping it
	@MILLSTREAM_SLT=update cargo test --locked --package millstream-process --test slt

fmt: need-cargo ## format every file
	@cargo fmt --all

bench: need-cargo need-cc need-python ## speed, against limits and peers; writes bench/results/
	@cargo build --locked --release --package millstream --package millstream-bench --package millstream-nexmark
	@python3 bench/run.py $(ARGS)

tpch: need-cargo need-cc need-python ## TPC-H at scale 1 beside DuckDB, its answers checked (ARGS=--full for scale 10 too)
	@cargo build --locked --release --package millstream --package millstream-bench --package millstream-nexmark
	@python3 bench/run.py --only tpch $(ARGS)

soak: need-cargo need-cc ## the crash tests without end, with other writers beside; stop them with Ctrl-C
	@MILLSTREAM_CRASH_ROUNDS=0 cargo test --locked --package millstream --test crash -- --nocapture --test-threads=4 --skip s3

soak-views: need-cargo need-cc ## random queries over random changes without end; stops at a difference, or with Ctrl-C
	@MILLSTREAM_CASES=0 cargo test --locked --package millstream --package millstream-views --test equality random -- --nocapture

fuzz: need-cargo need-cc ## the fuzz targets, a minute each (ARGS=-max_total_time=… for longer)
	@scripts/fuzz.sh $(ARGS)

need-cargo:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
need-cc:
	@command -v cc >/dev/null || { echo "a C compiler (cc) is missing: apt install build-essential, or the like"; exit 1; }
need-python:
	@command -v python3 >/dev/null || { echo "python3 is missing: apt install python3 python3-venv, or the like"; exit 1; }
