SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# What rustup installed is found by a shell that was started before, too.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
.PHONY: help set-up set-up-tests demo starters test test-devices check-cuda bench-devices test-browser test-python test-napari sam-parity exchange-parity test-neon test-unsafe fuzz-smoke fuzz-guided stop torture test-java java java-natives bench-qupath header install-c lint lint-header lint-notices lint-paths lint-weight check-all dist dist-try dist-jars reproducible bench

# One package set for everything that is tested, so that features unify in one way and every dependency is compiled once per
# profile. What is handed out is built by its package's name instead: it is without Candle, which the tests need.
PACKAGES := --workspace

OUT ?= demo-out
DATA ?=
STEPS ?=
ALGORITHM ?=
PREFIX ?= /usr/local
SECONDS_EACH ?= 60
KILLS ?= 200
ONLY ?=
REQUESTS ?= 20
STARTERS ?= stardist cellpose elephant
TARGETS ?=
KINDS ?=
PROGRAMS ?=

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Looked up when it is used: `make test` may have installed it by then.
MAVEN = $(shell command -v mvn)
# All versions are fixed: the first run fetches what is missing, later ones need no network.
MVN := mvn --batch-mode --quiet --file cellsparse-java/pom.xml
PLATFORM := $(shell uname -s | sed 's/Darwin/macos/; s/Linux/linux/')-$(shell uname -m | sed 's/arm64/aarch64/; s/amd64/x86_64/')
SHARED := $(if $(filter macos-%,$(PLATFORM)),dylib,so)
NATIVES := cellsparse-java/target/natives

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

set-up:
	@packaging/set_up.sh rust c

demo: set-up ## Train from a few annotated nuclei and segment unseen fields; [DATA=DIR] [OUT=demo-out] [STEPS=N] [ALGORITHM=A]
	cargo run --release -p cellsparse-cli -- demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") $(if $(STEPS),--steps $(STEPS)) $(if $(ALGORITHM),--algorithm $(ALGORITHM))

starters: ## Make the starting weights in cellsparse-core/starters anew, or go on where the last run ended (hours); [STARTERS="stardist cellpose elephant"]
	for algorithm in $(STARTERS); do \
	  cargo run --release $(PACKAGES) --example starters -- --algorithm $$algorithm --out target/starters; \
	  cp target/starters/$$algorithm.bin target/starters/$$algorithm.json cellsparse-core/starters/; \
	done

set-up-tests:
	@packaging/set_up.sh rust c python --optional java valgrind

test: set-up-tests ## Run every test, the examples in the documentation included; Java's too where Maven is installed
	cargo test $(PACKAGES) --no-run
	cargo test $(PACKAGES)
	$(if $(MAVEN),$(MAKE) --no-print-directory test-java,@echo "mvn is not installed: the tests of Java are left out")
	tests/browser.sh
	cellsparse-py/test.sh

test-browser: ## Draw, learn, correct and download on the page of the server in Chromium and Firefox; [ONLY=firefox] [PICTURES=docs/images]
	tests/browser.sh $(if $(PICTURES),browser=chromium pictures=$(PICTURES)) $(if $(ONLY),browser=$(ONLY))

test-python: ## Build the wheel into fresh virtual environments and run its tests there, with the lowest and the newest NumPy
	cellsparse-py/test.sh

test-napari: ## Run the tests of the napari plugin, headless, in a virtual environment of its own (a large download the first time)
	cellsparse-py/test_napari.sh

sam-parity: ## Compare masks of SAM and MobileSAM with the original packages, on random weights (several GB to download the first time); [KINDS="vit_b vit_t"]
	benches/peers/setup.sh sam
	cargo build $(PACKAGES) --example sam
	target/peers/.venv/bin/python tests/sam/parity.py target/debug/examples/sam $(KINDS)

exchange-parity: ## Give models to the real StarDist, TensorFlow, OpenCV and Cellpose, take theirs, and give packages to bioimage.io and ONNX files to runtimes (several GB to download the first time); [PROGRAMS="stardist tensorflow cellpose"]
	benches/peers/setup.sh tensorflow cellpose bioimageio
	cargo build $(PACKAGES)
	target/peers/.venv/bin/python tests/exchange/parity.py target/debug/cellsparse $(PROGRAMS)
	target/peers/.venv/bin/python tests/exchange/packages.py target/debug/cellsparse
	tests/exchange/bioimageio.sh target/debug/cellsparse
	tests/exchange/runtimes.sh target/debug/cellsparse
	$(if $(MAVEN),tests/exchange/djl.sh target/debug/cellsparse,@echo "mvn is not installed: ONNX files are not given to DJL")

test-neon: ## Run the tests of the kernels for AArch64 on an emulated processor (fetches a compiler where none is installed)
	tests/neon.sh --nocapture

test-unsafe: ## Run the tests of the code with `unsafe` under Miri and the address sanitizer (needs a nightly toolchain; Miri takes long)
	tests/unsafe.sh

dist: ## Build program, C library, wheel and native library of Java for every platform, under target/dist; [TARGETS="x86_64-pc-windows-gnullvm ..."]
	packaging/dist.sh $(TARGETS)

dist-try: ## Run what `make dist` built by Wine, QEMU and in an empty root folder, and compare label images; [TARGETS=...]
	packaging/try.sh $(TARGETS)

dist-jars: ## Pack the jars for all platforms and for each one with the libraries that `make dist` built
	packaging/jars.sh

reproducible: ## Build what is handed out for this machine in two folders, and compare hashes
	packaging/reproducible.sh

check-all: ## Check every feature alone and together, the lowest Rust, archives, licences, accelerators, a release build; says how long each took
	tests/check_all.sh

check-cuda: ## Compile everything for CUDA, link the tests of devices and run them without a card, with NVIDIA's packages (1.5 GB the first time); says how long it took
	tests/check_all.sh cuda

test-devices: ## Run the tests of accelerators on the one of this machine; says clearly when there is none
	tests/devices.sh

bench-devices: ## Pack tests and measurement for a machine with a CUDA card and without a network; benches/devices/run.sh runs them there
	benches/devices/pack.sh

fuzz-smoke: ## Try random input on every target; [SECONDS_EACH=60]
	CELLSPARSE_FUZZ_SECONDS=$(SECONDS_EACH) cargo test $(PACKAGES) --test fuzz -- --test-threads 1 --nocapture

fuzz-guided: ## Fuzz the readers of files by libFuzzer, guided by what they reach; [SECONDS_EACH=60] [READERS="image zarr"]
	SECONDS_EACH=$(SECONDS_EACH) tests/guided.sh $(READERS)

stop: ## Measure how soon work ends when it is asked to, in every phase; [ONLY=text] [REQUESTS=20] (half an hour)
	cargo run --release $(PACKAGES) --example stop -- only="$(ONLY)" requests=$(REQUESTS)

torture: ## Kill trainings, predictions and servers at random, let clients wait and leave, cut the network off, watch what is written; [KILLS=200] (about 15 minutes)
	cargo build --release -p cellsparse-cli
	tests/torture/torture.py target/release/cellsparse kills=$(KILLS)

test-java: ## Run the tests of Java on the library that the tests of Rust built
	cargo test $(PACKAGES) --no-run
	$(MAKE) --no-print-directory java-natives FROM=target/debug/deps
# Java names files in the letters of the locale alone, and a system with little has none set.
	LC_ALL=C.UTF-8 $(MVN) test

java: ## Build the jars of Java and of QuPath's extension with the native library of this platform, in release mode
	cargo build --release -p cellsparse-jni --features sam
	$(MAKE) --no-print-directory java-natives FROM=target/release
	$(MVN) -DskipTests package
	@ls -l cellsparse-java/cellsparse/target/cellsparse-$(VERSION).jar \
	  cellsparse-java/qupath-extension-cellsparse/target/qupath-extension-cellsparse-$(VERSION).jar

java-natives:
	mkdir -p $(NATIVES)/native/$(PLATFORM)
	strip -S -o $(NATIVES)/native/$(PLATFORM)/libcellsparse_jni.$(SHARED) $(FROM)/libcellsparse_jni.$(SHARED)

header: ## Write include/cellsparse.h anew from cellsparse-ffi
	CELLSPARSE_WRITE_HEADER=1 cargo test $(PACKAGES) --test header

install-c: ## Build the C library in release mode and install it; [PREFIX=/usr/local]
	cargo build --release -p cellsparse-ffi
	install -d "$(PREFIX)/include" "$(PREFIX)/lib/pkgconfig"
	install -m 644 include/cellsparse.h "$(PREFIX)/include/"
	install -m 644 target/release/libcellsparse.a "$(PREFIX)/lib/"
	install -m 755 target/release/libcellsparse.$(SHARED) "$(PREFIX)/lib/libcellsparse.$(if $(filter dylib,$(SHARED)),0.dylib,so.0)"
	ln -sf "libcellsparse.$(if $(filter dylib,$(SHARED)),0.dylib,so.0)" "$(PREFIX)/lib/libcellsparse.$(SHARED)"
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' cellsparse-ffi/cellsparse.pc.in > "$(PREFIX)/lib/pkgconfig/cellsparse.pc"

lint: lint-paths lint-weight lint-header lint-notices ## Check format, warnings of compiler and clippy, documentation, number of crates, notices of licences, QuPath's catalog, machine paths in tracked files
	cargo fmt --all --check
	cargo fmt --manifest-path tests/guided/Cargo.toml --check
	cargo clippy $(PACKAGES) --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc $(PACKAGES) --no-deps

lint-weight:
	tests/weight.sh

lint-notices:
	python3 packaging/third_party.py --check
	python3 packaging/catalog.py --check

lint-header:
	cargo test $(PACKAGES) --test header --quiet

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

bench-qupath: ## Time QuPath's menu commands in process and by the server protocol; [ALGORITHM=stardist] [STEPS=200] [ROUNDS=1]
	cargo build --release -p cellsparse-jni -p cellsparse-cli
	$(MAKE) --no-print-directory java-natives FROM=target/release
	$(MVN) -Dtest=TimeToResult -Dsurefire.failIfNoSpecifiedTests=false -Dcellsparse.command=$(CURDIR)/target/release/cellsparse \
	  $(if $(ALGORITHM),-Dbench.algorithm=$(ALGORITHM)) $(if $(STEPS),-Dbench.steps=$(STEPS)) \
	  $(if $(ROUNDS),-Dbench.rounds=$(ROUNDS)) test
