#!/usr/bin/env bash
# Installs the wheel for this machine from a folder into a fresh virtual environment, without the network but for NumPy, and
# gets a first result with it: drawn nuclei, a short training, a prediction.
#
#   packaging/try_wheel.sh FOLDER
set -euo pipefail
[ $# = 1 ] || { echo "usage: packaging/try_wheel.sh FOLDER" >&2 && exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
bin=$folder/venv/bin
[ -d "$bin" ] || bin=$folder/venv/Scripts
"$bin/python" -m pip install --quiet --disable-pip-version-check numpy
"$bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --find-links "$1" cellsparse
cd "$folder"
"$bin/python" - <<'PY'
import platform

import cellsparse as cs

image, truth, annotation = cs.synthetic.field(seed=1, shape=(128, 128))
model = cs.StarDist()
model.train([image], [annotation], steps=3, batch_size=1, patch_size=96, progress=False)
labels, objects = model.predict(image)
score = cs.metrics.matching(truth, labels, thresh=0.5)
print(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}: {len(objects)} objects, AP {score.accuracy:.3f}")
assert len(objects) > 0
PY
