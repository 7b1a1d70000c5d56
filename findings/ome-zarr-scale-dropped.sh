#!/usr/bin/env bash
# ome-zarr 0.18.0 writes images with the pixel size 1 and without a unit when both are given as earlier versions took them.
#
# Programs written for ome-zarr 0.10 give `write_image` the unit of each axis in `axes` and the pixel size in
# `coordinate_transformations`. Version 0.18.0 still takes both. It warns that the second argument will be removed in a future
# version, but it is without effect already, and so is the unit: an image of 250 nm a pixel is stored with the scale 1 and no
# unit, which readers take for a pixel size or for none. With `scale` and `axes_units` both are stored.
#
# Seen with Python 3.11 and zarr 3.1.6: "0.18.0 as before: unit None scale 1.0; now: unit nanometer scale 250.0".
# Exit status 0: as described. 1: something else was seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ome-zarr==0.18.0 zarr==3.1.6
cat > "$folder/check.py" <<'PY'
import importlib.metadata
import sys
import warnings

import numpy as np
import zarr
from ome_zarr.writer import write_image

warnings.simplefilter("ignore")
AXES = [
    {"name": "y", "type": "space", "unit": "nanometer"},
    {"name": "x", "type": "space", "unit": "nanometer"},
]


def stored(name, **size):
    group = zarr.open_group(f"{sys.argv[1]}/{name}", mode="w")
    write_image(np.zeros((64, 64), "u2"), group, axes=AXES, **size)
    image = dict(group.attrs)["ome"]["multiscales"][0]
    scale = next(one["scale"] for one in image["datasets"][0]["coordinateTransformations"] if one["type"] == "scale")
    return f"unit {image['axes'][0].get('unit')} scale {scale[0]}"


levels = [[{"type": "scale", "scale": [250.0 * 2**level] * 2}] for level in range(5)]
before = stored("before", coordinate_transformations=levels)
now = stored("now", scale={"y": 250.0, "x": 250.0}, axes_units={"y": "nanometer", "x": "nanometer"})
print(f"{importlib.metadata.version('ome-zarr')} as before: {before}; now: {now}")
PY
seen=$("$folder/venv/bin/python" "$folder/check.py" "$folder")
echo "$seen"
[ "$seen" = "0.18.0 as before: unit None scale 1.0; now: unit nanometer scale 250.0" ]
