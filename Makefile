SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-python test-neon lint lint-paths bench

# One package set everywhere, so that features unify in one way and every dependency is compiled once per profile.
PACKAGES := --workspace

OUT ?= demo-out
DATA ?=
STEPS ?=
ALGORITHM ?=

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Train from a few annotated nuclei and segment unseen fields; [DATA=DIR] [OUT=demo-out] [STEPS=N] [ALGORITHM=A]
	cargo run --release -p cellsparse-cli -- demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") $(if $(STEPS),--steps $(STEPS)) $(if $(ALGORITHM),--algorithm $(ALGORITHM))

test: ## Run every test, the examples in the documentation included
	cargo test $(PACKAGES) --no-run
	cargo test $(PACKAGES)
	cellsparse-py/test.sh

test-python: ## Build the wheel into fresh virtual environments and run its tests there, with the lowest and the newest NumPy
	cellsparse-py/test.sh

test-neon: ## Run the tests of the kernels for AArch64 on an emulated processor (fetches a compiler where none is installed)
	tests/neon.sh --nocapture

lint: lint-paths ## Check format, compiler and clippy warnings, documentation, and machine paths in tracked files
	cargo fmt --all --check
	cargo clippy $(PACKAGES) --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc $(PACKAGES) --no-deps

# A path such as that of somebody's home folder works on one machine only.
lint-paths:
	@git -c safe.directory='*' rev-parse --is-inside-work-tree > /dev/null 2>&1 || { echo "paths: not a git checkout, nothing to check"; exit 0; }; \
	status=0; git -c safe.directory='*' grep -nIE '(^|[^A-Za-z0-9_.~/-])/(home|root|Users|work)/' || status=$$?; \
	case $$status in \
	  0) echo "paths: the lines above name a folder of one machine; use a path relative to the repository"; exit 1 ;; \
	  1) echo "paths: no tracked file names a folder of one machine" ;; \
	  *) echo "paths: git grep failed"; exit $$status ;; \
	esac

bench: ## Time the parts of the library; says how to measure quality and how to compare with other programs
	cargo bench $(PACKAGES)
	@echo
	@echo "Quality (needs the data sets, see docs/results.md):"
	@echo "  cargo run --release -p cellsparse-core --example quality -- DATA [scribble|far|k4] [KEY=VALUE ...]"
	@echo "Other programs on the same data: see benches/peers"
