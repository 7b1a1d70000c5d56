#!/usr/bin/env bash
# Counts the crates that users of the library and of the programs compile, and fails when there are more than promised.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0

# check MOST WHAT ARGUMENT ...: crates in `cargo tree ARGUMENT ...`, the package itself included.
check() {
  local most=$1 what=$2 found
  shift 2
  found=$(cargo tree --quiet --edges normal --prefix none --format '{p}' "$@" | sed 's/ (\*)$//' | sort -u | wc -l)
  printf '%-52s %4d crates, at most %d\n' "$what" "$found" "$most"
  if [ "$found" -gt "$most" ]; then
    echo "weight: $what takes too many crates; see cargo tree $*" >&2
    status=1
  fi
}

check 30 "labels, geometry, post-processing, metrics" -p cellsparse-core --no-default-features
check 55 "inference and model files" -p cellsparse-core --no-default-features --features models
check 80 "the library without Candle" -p cellsparse-core --no-default-features --features models,io
check 80 "the same with models of StarDist" -p cellsparse-core --no-default-features --features models,io,keras
check 80 "the C library" -p cellsparse-ffi

# Candle comes with the features cuda, metal and sam only.
for package in cellsparse-cli cellsparse-ffi cellsparse-jni cellsparse-py; do
  if cargo tree --quiet --edges normal --prefix none --format '{p}' -p "$package" | grep -q '^candle-core '; then
    echo "weight: $package compiles Candle without being asked to" >&2
    status=1
  fi
done
exit "$status"
