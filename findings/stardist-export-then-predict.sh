#!/usr/bin/env bash
# A StarDist model that was exported for Fiji (`export_TF`) can no longer predict in the same process.
#
# stardist 0.9.2 (csbdeep 0.8.2) with TensorFlow 2.15.1: `predict_instances` works, `export_TF` writes its zip without an error, and
# `predict_instances` of the same object then raises "Your Layer or Model is in an invalid state". export_TF saves through the graphs
# of TensorFlow 1, from which Keras does not find back. Exporting again works, and so does the same model loaded anew in a new process, so
# the answer is to export last, or to load the model again elsewhere.
#
# Seen with Python 3.11: "before: ok", "exported: True", "after: ValueError, invalid state: True", "exported again: True",
# "new process: ok".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "stardist==0.9.2" "csbdeep==0.8.2" "tensorflow-cpu==2.15.1" "numpy==1.26.4"
cat > "$folder/check.py" <<'PY'
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from stardist.models import Config2D, StarDist2D

folder = sys.argv[1]
image = np.random.default_rng(0).random((64, 64), dtype=np.float32)


def predict(model, when):
    try:
        model.predict_instances(image, prob_thresh=0.99, nms_thresh=0.4)
        print(f"{when}: ok", file=sys.stderr)
    except Exception as error:
        print(f"{when}: {type(error).__name__}, invalid state: {'invalid state' in str(error)}", file=sys.stderr)


if len(sys.argv) > 2:
    predict(StarDist2D(None, "small", folder), "new process")
    sys.exit()
config = Config2D(n_rays=8, unet_n_depth=1, unet_n_filter_base=4, net_conv_after_unet=4)
model = StarDist2D(config, "small", folder)
model.keras_model.save_weights(os.path.join(folder, "small", "weights_best.h5"))
predict(model, "before")
for what in ("exported", "exported again"):
    path = os.path.join(folder, what.replace(" ", "_") + ".zip")
    model.export_TF(path)
    print(f"{what}: {os.path.exists(path)}", file=sys.stderr)
    if what == "exported":
        predict(model, "after")
PY
seen=$( { "$folder/venv/bin/python" "$folder/check.py" "$folder" && "$folder/venv/bin/python" "$folder/check.py" "$folder" again; } \
  2>&1 > /dev/null | grep -E '^(before|exported|after|exported again|new process):')
echo "$seen"
expected="before: ok
exported: True
after: ValueError, invalid state: True
exported again: True
new process: ok"
[ "$seen" = "$expected" ] || { echo "not as described" >&2; exit 1; }
