#!/usr/bin/env bash
# Runs the tests of the code with `unsafe` under Miri and with the address sanitizer. Both need a nightly toolchain:
#   rustup toolchain install nightly --component miri --component rust-src
#
#   tests/unsafe.sh [PART ...] [-- ARGUMENTS OF THE TEST PROGRAMS]     default both; e.g. tests/unsafe.sh miri -- soundness
#     miri       the kernels in plain Rust, interpreted: every access is checked, on small maps
#     address    the kernels on every instruction set of this machine, and the C library's own tests
#
# NIGHTLY names the toolchain. What is built lies under target/unsafe.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
nightly=${NIGHTLY:-nightly}
host=$(rustc -vV | sed -n 's/^host: //p')

fail() {
  echo "error: $*" >&2
  exit 1
}

cargo "+$nightly" --version > /dev/null 2>&1 ||
  fail "there is no toolchain '$nightly'; install one, or name another with NIGHTLY=..."

miri() {
  cargo "+$nightly" miri --version > /dev/null 2>&1 ||
    fail "the toolchain '$nightly' has no Miri: rustup component add miri rust-src --toolchain $nightly"
  # Rayon's queues keep memory for later and follow the rules of tree borrows, not the stricter ones of stacked borrows.
  CARGO_TARGET_DIR=target/unsafe/miri MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation" \
    cargo "+$nightly" miri test -p cellsparse-kernels --lib --test kernels -- "$@"
}

address() {
  # Values behind a buffer's end are found by the sanitizer on the heap, where all maps lie. Its runtime is part of the
  # toolchain.
  CARGO_TARGET_DIR=target/unsafe/address RUSTFLAGS=-Zsanitizer=address \
    cargo "+$nightly" test --target "$host" -p cellsparse-kernels -p cellsparse-ffi --lib --test kernels -- "$@"
}

parts=()
while [ $# -gt 0 ]; do
  case $1 in
    miri | address) parts+=("$1") ;;
    --) shift && break ;;
    *) fail "unknown part '$1'; give miri or address" ;;
  esac
  shift
done
[ ${#parts[@]} -gt 0 ] || parts=(miri address)
for part in "${parts[@]}"; do
  began=$SECONDS
  "$part" "$@"
  echo "$part: passed in $((SECONDS - began)) s"
done
