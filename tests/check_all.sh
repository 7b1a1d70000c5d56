#!/usr/bin/env bash
# Checks that take longer than `make lint` and need not run for every change: each feature alone and all together, the lowest
# Rust version, what each crate's archive holds, the dependencies' licences and advisories, changes that break callers, the numeric
# tests as they are released, and the code for accelerators. Says how long each took.
#
#   tests/check_all.sh [STAGE ...]      default: features package rust deny semver workflows metal cuda release
#
# A stage whose tool is missing is left out and named at the end, with status 0; nothing is installed but into target/.
#   rust     rustup toolchain install VERSION --profile minimal, with the `rust-version` of Cargo.toml
#   deny     cargo install cargo-deny
#   semver   cargo install cargo-semver-checks, and a tag v* to compare with
#   workflows  go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
#   metal    rustup target add aarch64-apple-darwin; or rustup toolchain install nightly --component rust-src, NIGHTLY names
#            another toolchain
#   cuda     pip, 1.5 GB of NVIDIA's packages
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nightly=${NIGHTLY:-nightly}
left_out=77
report=()
failed=0

# The combinations that the library promises, each without warnings, and the programs with what they leave out by default.
features() {
  export CARGO_TARGET_DIR=target/check/features RUSTFLAGS=-Dwarnings
  local set package
  for set in "" serde io models io,models candle candle,io sam; do
    echo "-- cellsparse-core with '$set'"
    cargo check --quiet -p cellsparse-core --lib --no-default-features --features "$set" || return 1
  done
  for package in $(packages); do
    echo "-- $package"
    cargo check --quiet -p "$package" || return 1
  done
  for package in cellsparse-cli cellsparse-ffi cellsparse-jni cellsparse-py; do
    echo "-- $package with 'sam'"
    cargo check --quiet -p "$package" --features sam || return 1
  done
  tests/weight.sh
}

# The names of the crates of the workspace.
packages() {
  cargo metadata --no-deps --format-version 1 | tr ',{' '\n\n' | sed -n 's/^"name":"\(cellsparse-[a-z]*\)"$/\1/p' | sort -u |
    grep -v -x cellsparse-tests
}

# Every crate that can be published has what it needs in its archive.
package() {
  tests/package.sh
}

# The version that the manifests state.
rust() {
  local version
  version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  cargo "+$version" --version > /dev/null 2>&1 || return $left_out
  CARGO_TARGET_DIR=target/check/rust cargo "+$version" check --quiet --workspace
}

deny() {
  cargo deny --version > /dev/null 2>&1 || return $left_out
  cargo deny check
}

# Against the newest release. Bindings have no callers in Rust.
semver() {
  local base
  cargo semver-checks --version > /dev/null 2>&1 || return $left_out
  base=$(git tag --list 'v*' --sort=-version:refname | head -n 1)
  [ -n "$base" ] || return $left_out
  cargo semver-checks --baseline-rev "$base" -p cellsparse-core -p cellsparse-kernels
}

# What the workflows of .github call is in scripts, which are run elsewhere; here is looked whether the files are well formed.
workflows() {
  actionlint -version > /dev/null 2>&1 || return $left_out
  actionlint
}

# Without the checks of the development profile, with the optimisations that users get.
release() {
  cargo test --release --quiet --workspace --test kernels --test golden
}

# What is built for accelerators, with one accelerator's feature: the library and every program.
accelerated() {
  local package
  for package in cellsparse-core cellsparse-cli cellsparse-ffi cellsparse-jni cellsparse-py; do
    echo "-p $package --features $package/$1,$package/sam"
  done
}

# Type-checked only. The standard library of macOS is that of rustup, or comes from its source.
metal() {
  local cargo=(cargo) more=() target=aarch64-apple-darwin
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    [ -d "$(rustc "+$nightly" --print sysroot 2> /dev/null)/lib/rustlib/src" ] || return $left_out
    cargo=(cargo "+$nightly") more=(-Zbuild-std=std,panic_abort)
  fi
  # shellcheck disable=SC2046
  CARGO_TARGET_DIR=target/check/metal "${cargo[@]}" check --quiet "${more[@]}" --target "$target" $(accelerated metal)
}

# Type-checked without warnings, with the kernels of Candle compiled by NVIDIA's compiler; then the tests of devices, linked with them,
# on this machine, which need not have a card.
cuda() {
  # shellcheck source=tests/cuda_toolkit.sh
  source tests/cuda_toolkit.sh target/cuda || return $left_out
  export CARGO_TARGET_DIR=target/devices
  # shellcheck disable=SC2046
  cargo clippy --quiet --release $(accelerated cuda) -- -D warnings &&
    cargo clippy --quiet --release -p cellsparse-core --lib --features cudnn,sam -- -D warnings &&
    cargo test --quiet --release -p cellsparse-core --lib --features cuda device
}

stages=("$@")
[ $# -gt 0 ] || stages=(features package rust deny semver workflows metal cuda release)
for stage in "${stages[@]}"; do
  case $stage in
    features | package | rust | deny | semver | workflows | metal | cuda | release) ;;
    *) echo "error: unknown stage '$stage'" >&2 && exit 2 ;;
  esac
  echo "== $stage"
  began=$SECONDS status=0
  ("$stage") || status=$?
  case $status in
    0) result=passed ;;
    "$left_out") result="left out: what it needs is missing" ;;
    *) result=failed failed=1 ;;
  esac
  report+=("$(printf '%-9s %5d s  %s' "$stage" $((SECONDS - began)) "$result")")
done
echo "== time"
printf '%s\n' "${report[@]}"
exit "$failed"
