#!/usr/bin/env bash
# Builds the wheel, installs it into fresh virtual environments under target/python, one with the lowest supported NumPy
# and one with the newest, and runs the tests there. Arguments go to pytest. PYTHON names the interpreter.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$PWD/target/python
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "error: $("$python" --version) is too old; name Python 3.10 or later with PYTHON=..." >&2
  exit 1
}

# The lowest supported NumPy, or the first that has wheels for this Python.
lowest=$("$python" - <<'EOF'
import sys
first = {10: "1.23.0", 11: "1.23.2", 12: "1.26.0", 13: "2.1.0", 14: "2.3.2"}
print(first.get(sys.version_info[1], ""))
EOF
)

environment() {
  rm -rf "${work:?}/$1"
  "$python" -m venv "$work/$1"
  "$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

# Packages that the wheel needs with other features than the tests of Rust have compiled.
packages() {
  cargo tree --edges "$1" --prefix none --format '{p} [{f}]' "${@:2}" | sed 's/ (\*)$//' | sort -u
}
compiled=$(packages normal,build,dev --workspace)
anew=$(packages normal,build --package cellsparse-py --features cellsparse-core/default,sam | comm -13 <(echo "$compiled") -)
if [ -n "$anew" ]; then
  echo "note: these and what depends on them are compiled once more; name their other features in cellsparse-py/Cargo.toml:"
  echo "$anew"
fi

rm -rf "${work:?}/wheels"
environment newest "maturin>=1.9.4,<2" numpy pytest safetensors matplotlib tqdm types-tqdm mypy nbclient ipykernel \
  tifffile imagecodecs roifile pycocotools shapely Pillow scikit-image onnx onnxruntime
# The profile and the features of `cargo test`, whose compiled dependencies are used again: unlike the wheel that is handed
# out, this one has Candle, and what is built on it.
PATH="$work/newest/bin:$PATH" "$work/newest/bin/maturin" build --quiet --manifest-path cellsparse-py/Cargo.toml \
  --profile dev --features cellsparse-core/default,sam --out "$work/wheels"
wheels=("$work"/wheels/cellsparse-*.whl)
echo "wheel: $(du -k "${wheels[0]}" | cut -f1) kB, $(basename "${wheels[0]}") (development profile)"

run() {
  "$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "${wheels[0]}"
  "$work/$1/bin/python" -m pip check
  echo "pytest with $("$work/$1/bin/python" -c 'import sys, numpy; print("Python", sys.version.split()[0], "NumPy", numpy.__version__)')"
  (cd cellsparse-py && "$work/$1/bin/python" -m pytest -p no:cacheprovider "${@:2}")
}

# Writers of image files whose files have to be read as they were written.
"$work/newest/bin/python" -m pip install --quiet --disable-pip-version-check tifffile imagecodecs pillow
run newest "$@"
if [ -n "$lowest" ]; then
  environment lowest "numpy==$lowest" pytest safetensors tqdm
  run lowest "$@"
fi
