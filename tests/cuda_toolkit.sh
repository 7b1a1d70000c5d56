#!/usr/bin/env bash
# Puts what `--features cuda` needs to build into a folder, without a graphics card, a driver or an installed CUDA toolkit.
#
#   source tests/cuda_toolkit.sh [FOLDER [cudnn]]      default target/cuda; sets the variables that the build reads
#   cargo build --release -p cellsparse-cli --features cuda
#
# With `cudnn` also what is needed to link `--features cudnn` (0.5 GB).
# The compiler and the libraries are NVIDIA's packages for Python (1.5 GB). CUDA 13.0, because a driver refuses what a newer
# compiler wrote. A program that was built so loads the libraries of CUDA when it opens a device, and starts without them and
# without a driver. What Cargo builds lies in a folder with the name of the target.
cuda_toolkit() {
  local folder
  folder=$(mkdir -p "$1" && cd "$1" && pwd) || return 1
  local toolkit=$folder/toolkit packages=$folder/wheels/nvidia file name
  if [ ! -e "$folder/ready" ]; then
    python3 -m pip install --quiet --no-deps --target "$folder/wheels" \
      "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" "nvidia-nvvm==13.0.*" "nvidia-cuda-cccl==13.0.*" \
      "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-nvrtc==13.0.*" "nvidia-cublas==13.0.*" "nvidia-curand==10.4.0.*" || return 1
    mkdir -p "$toolkit/lib64/stubs"
    for name in bin nvvm include; do ln -sfn "$packages/cu13/$name" "$toolkit/$name"; done
    ln -sfn lib64 "$toolkit/lib"
    chmod +x "$packages"/cu13/bin/* "$packages"/cu13/nvvm/bin/* 2> /dev/null
    for file in "$packages"/cu13/lib/*; do ln -sf "$file" "$toolkit/lib64/"; done
    for name in cublas cublasLt curand nvrtc; do
      ln -sf "$(find "$toolkit/lib64" -name "lib$name.so.*" | head -n 1)" "$toolkit/lib64/lib$name.so"
    done
    # Of the runtime, which kernels of Candle are linked with, the part that goes into a program.
    rm -f "$toolkit/lib64/libcudart.so"
    ln -sf libcudart_static.a "$toolkit/lib64/libcudart.a"
    # The driver's library is in no package: a stub for the linker with every function that the bindings declare, which all
    # answer 100, "no device".
    cargo fetch --quiet
    local bindings
    bindings=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -path '*/cudarc-*/src/driver/sys/mod.rs' | sort | tail -n 1)
    grep -ohE 'fn (cu[A-Z][A-Za-z0-9_]*)' "$bindings" | awk '{print $2}' | sort -u |
      awk '{print "int " $1 "(void) { return 100; }"}' > "$folder/stub.c" || return 1
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$toolkit/lib64/stubs/libcuda.so" "$folder/stub.c" || return 1
    touch "$folder/ready"
  fi
  if [ "${2:-}" = cudnn ] && [ ! -e "$folder/cudnn" ]; then
    python3 -m pip install --quiet --no-deps --target "$folder/cudnn-wheels" "nvidia-cudnn-cu13==9.*" || return 1
    for file in "$folder"/cudnn-wheels/nvidia/cudnn/lib/*; do ln -sf "$file" "$toolkit/lib64/"; done
    ln -sf libcudnn.so.9 "$toolkit/lib64/libcudnn.so"
    touch "$folder/cudnn"
  fi
  cp "$(dirname "${BASH_SOURCE[0]}")/nvcc_kept.sh" "$toolkit/bin/nvcc-kept"
  export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit PATH=$toolkit/bin:$PATH
  export NVCC=$toolkit/bin/nvcc-kept NVCC_KEPT=$folder/kernels
  # There is no card to ask.
  export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
  # Candle has its bindings linked; this has them load the libraries, of which the linker then needs none. Build scripts, which refuse
  # both at once, do not see it where a target is named.
  CARGO_BUILD_TARGET=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')} || return 1
  export CARGO_BUILD_TARGET LD_LIBRARY_PATH=$toolkit/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }--cfg feature=\"dynamic-loading\""
  export LIBRARY_PATH=$toolkit/lib64:$toolkit/lib64/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
}
cuda_toolkit "${1:-target/cuda}" "${2:-}"
