#!/usr/bin/env bash
# Builds the tests and the measurement for CUDA on this machine, which needs no card, and packs them for a machine that has one and
# reaches no network: into .devices/pack.tar.xz.
#
#   benches/devices/pack.sh [cudnn]      with cuDNN, which the machine then needs
#
# There, benches/devices/run.sh unpacks and runs them; it takes the libraries of CUDA from the packages that PyTorch came with. The
# programs are compiled for the card that CUDA_COMPUTE_CAP names (90: H100 and H200).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/cuda_toolkit.sh
source tests/cuda_toolkit.sh target/cuda "${1:-}"
export CARGO_TARGET_DIR=target/devices
begin=$SECONDS
programs() { sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'; }
tests=$(cargo test --release -p cellsparse-core --features "${1:-cuda}" --lib --no-run --message-format json | programs)
bench=$(cargo build --release -p cellsparse-core --features "${1:-cuda}" --example devices --message-format json | programs)
rm -rf .devices && mkdir .devices
strip -o .devices/tests "$tests"
strip -o .devices/devices "$bench"
tar --create --directory .devices --file - tests devices | xz -T0 -6 > .devices/pack.tar.xz
rm .devices/tests .devices/devices
echo "packed in $((SECONDS - begin)) s:" && ls -l .devices/pack.tar.xz
