#!/usr/bin/env bash
# Runs the tests of devices on the accelerator of this machine, and says clearly when there is none.
#
#   tests/devices.sh [cudnn]      with cuDNN, on a machine that has it
#
# Without one, the same tests run on the device that stands in for it: Candle on the CPU, by the same code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() { cargo test "$@" device -- --test-threads 1; }

if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
  echo "devices: $(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)"
  command -v nvcc > /dev/null || source tests/cuda_toolkit.sh target/cuda "${1:-}"
  CELLSPARSE_TEST_DEVICE=cuda:0 CARGO_TARGET_DIR=target/devices run --release -p cellsparse-core --features "${1:-cuda}" --lib
elif [ "$(uname -s)" = Darwin ]; then
  echo "devices: Metal"
  CELLSPARSE_TEST_DEVICE=metal CARGO_TARGET_DIR=target/devices run --release -p cellsparse-core --features metal --lib
else
  run --workspace --lib
  echo "devices: NO ACCELERATOR ON THIS MACHINE. The tests above ran on the CPU in its place; nothing ran on a card."
fi
