#!/usr/bin/env bash
# Gives a package of every algorithm to the bioimage.io programs: the newest bioimageio.spec validates it, and the test command of
# bioimageio.core runs its weights by onnxruntime and compares the answers with the test tensors in it.
#
#   tests/exchange/bioimageio.sh PROGRAM      PROGRAM is the command `cellsparse`
#
# The two come from PyPI into virtual environments under target/bioimageio, since bioimageio.core 0.11.0 wants an older
# bioimageio.spec, which in turn refuses every package where pydantic is 2.13 or newer.
set -euo pipefail

program=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
home=$PWD/target/bioimageio
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# environment NAME PACKAGE...: a virtual environment, made unless it is there.
environment() {
  if [ -e "$home/$1/ready" ]; then return; fi
  "${PYTHON:-python3}" -m venv --clear "$home/$1"
  "$home/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
  touch "$home/$1/ready"
}
environment spec bioimageio.spec==0.5.14.3
environment core bioimageio.core==0.11.0 pydantic==2.12.5 onnxruntime==1.32.0

# Neither looks anything up: a licence is a name, and all files are in the package.
export BIOIMAGEIO_PERFORM_IO_CHECKS=False BIOIMAGEIO_CACHE_PATH=$folder/cache
about='{"package": {"name": "Nuclei in drawn fields", "description": "Trained on drawn fields of nuclei", "authors": ["A. Biologist"],
  "license": "CC-BY-4.0", "training_data": "Fields that cellsparse draws"}}'
echo "$about" > "$folder/about.json"

for algorithm in stardist cellpose elephant; do
  package=$folder/$algorithm.zip
  "$program" demo --algorithm $algorithm --steps 2 --out "$folder/$algorithm" > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
  model=$(find "$folder/$algorithm" -name '*.safetensors' | head -n 1)
  "$program" convert --from "$model" --to "$package" --config "$folder/about.json" > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
  "$home/spec/bin/python" - "$package" <<'EOF'
import sys, warnings
import bioimageio.spec
warnings.simplefilter("ignore")
summary = bioimageio.spec.load_description(sys.argv[1]).validation_summary
if summary.status not in ("passed", "valid-format"):
    sys.exit(f"bioimageio.spec: {summary.status}\n{summary.format()}")
EOF
  "$home/core/bin/bioimageio" test "$package" > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
  echo "bioimage.io: $algorithm is valid for bioimageio.spec 0.5.14.3 and passes the test of bioimageio.core 0.11.0"
done
