# `make demo` and `make test` are all a newcomer needs; both build the same dependencies, once.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= $(HOME)/.cache/alluvium-target
export CARGO_TARGET_DIR

PREPARE := . .ci/prepare
PROGRAM := $(CARGO_TARGET_DIR)/debug/alluvium
# The kept binary: everything at level 3, the dependencies too, which are built once more for it (docs/performance.md).
KEPT := $(CARGO_TARGET_DIR)/kept
KEPT_PROFILE := --config 'profile.dev.opt-level=3' --config 'profile.dev.package."*".opt-level=3' \
	--config 'profile.dev.debug-assertions=false' --config 'profile.dev.overflow-checks=false' --config 'profile.dev.incremental=false' \
	--config 'profile.dev.codegen-units=4' --config 'profile.dev.debug=false'
BENCH_DATA ?= $(CARGO_TARGET_DIR)/bench-data
BENCH ?=
INTEROP_VENV ?= $(CARGO_TARGET_DIR)/interop-venv

.PHONY: help demo test release check fmt bench crash real interop

help:
	@echo 'make demo      build, and run the two examples'
	@echo 'make test      build, and run every test'
	@echo 'make release   the binary to keep and to measure: $(KEPT)/alluvium'
	@echo 'make check     formatting, lints, tidy, documentation'
	@echo 'make bench     measure the kept binary beside plain DataFusion (BENCH="ingest latency --repeat 1" to choose)'
	@echo 'make crash     100 kills at random moments (ALLUVIUM_CRASH_SEED=n to replay)'
	@echo 'make real      the tests over real data (ALLUVIUM_REAL_DATA=directory)'
	@echo 'make interop   read the tables back with the deltalake, polars and duckdb packages of PyPI'

demo:
	@$(PREPARE) && .ci/phase 'build' cargo build -p alluvium
	@for example in examples/school/medallion.sql examples/orders/orders.sql; do \
		warehouse=$$(mktemp -d) && .ci/phase "$$example" $(PROGRAM) --warehouse "$$warehouse" run "$$example"; \
		code=$$?; rm -rf "$$warehouse"; [ $$code = 0 ] || exit $$code; \
	done
	@echo; echo 'The program is $(PROGRAM); start it without arguments for a prompt.'

test:
	@.ci/test

# The first time it builds the dependencies once more, at level 3; afterwards our own crates only.
release:
	@$(PREPARE) && .ci/phase 'optimised build' cargo build $(KEPT_PROFILE) -p alluvium -p alluvium-bench -p alluvium-formats \
		--bins --example decode
	@mkdir -p $(KEPT) && for program in alluvium alluvium-bench examples/decode; do \
		kept=$(KEPT)/$${program##*/}; cp $(CARGO_TARGET_DIR)/debug/$$program $$kept.new && mv $$kept.new $$kept; done
	@echo '$(KEPT)/alluvium'

check:
	@$(PREPARE) && .ci/phase 'formatting' cargo fmt --all --check
	@$(PREPARE) && .ci/phase 'lints' cargo clippy --workspace --all-targets -- -D warnings
	@$(PREPARE) && .ci/phase 'tidy' cargo test -p alluvium --test tidy
	@$(PREPARE) && RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' .ci/phase 'documentation' cargo doc --workspace --no-deps --document-private-items

fmt:
	@$(PREPARE) && cargo fmt --all

bench: release
	@mkdir -p $(BENCH_DATA)
	@$(KEPT)/alluvium-bench run --program $(KEPT)/alluvium --data $(BENCH_DATA) $(BENCH)

crash:
	@$(PREPARE) && ALLUVIUM_CRASH_KILLS=$${ALLUVIUM_CRASH_KILLS:-100} ALLUVIUM_DRIFT_KILLS=$${ALLUVIUM_DRIFT_KILLS:-100} \
		.ci/phase 'crash tests' cargo test -p alluvium --test crash --test drift -- --nocapture --test-threads 1

real:
	@$(PREPARE) && .ci/phase 'real data' cargo test -p alluvium --test real_data --test real_drift -- --nocapture

interop:
	@$(PREPARE) && .ci/phase 'build' cargo build -p alluvium
	@test -x $(INTEROP_VENV)/bin/python || python3 -m venv $(INTEROP_VENV)
	@.ci/phase 'PyPI packages' $(INTEROP_VENV)/bin/pip install --quiet deltalake polars duckdb pyarrow pytz
	@.ci/phase 'reading back' $(INTEROP_VENV)/bin/python crates/cli/tests/interop/read_back.py $(PROGRAM)
