#!/usr/bin/env bash
# NVIDIA's compiler that keeps what it compiled, in NVCC_KEPT: the kernels of Candle take a quarter of an hour, and Cargo compiles them
# anew for every profile and every selection of packages. tests/cuda_toolkit.sh puts this beside the compiler.
set -euo pipefail
nvcc=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/nvcc
arguments=("$@")
source='' out='' folder='' rest=()
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=$2 && shift ;;
    --output-directory) folder=$2 && shift ;;
    *.cu) source=$1 && rest+=("$1") ;;
    *) rest+=("$1") ;;
  esac
  shift
done
[ -n "$source" ] && [ -n "${NVCC_KEPT:-}" ] || exec "$nvcc" "${arguments[@]}"
[ -n "$out" ] || out=$folder/$(basename "${source%.cu}").ptx
# What a source includes lies in the folder of its crate, where a build script runs.
key=$({
  printf '%s\n' "${rest[@]}"
  "$nvcc" --version
  find . -name '*.cu*' -type f | LC_ALL=C sort | xargs cat
} | sha256sum | cut -c 1-40)
if [ ! -e "$NVCC_KEPT/$key" ]; then
  "$nvcc" "${arguments[@]}"
  mkdir -p "$NVCC_KEPT"
  cp "$out" "$NVCC_KEPT/$key.$$"
  mv "$NVCC_KEPT/$key.$$" "$NVCC_KEPT/$key"
fi
cp "$NVCC_KEPT/$key" "$out"
