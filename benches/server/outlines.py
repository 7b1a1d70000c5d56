#!/usr/bin/env python3
"""Times the outlines of a label image as the original server draws them: the peer of `server_load objects=1`.

usage: outlines.py LABELS.png [--rounds 2]        (server_load objects=1 out=FOLDER writes FOLDER/objects.png)

Small objects are removed and the pixels of every label compared over the whole image, then traced with scikit-image
at level 0.5, as the original does it; what it writes as text is written with json. Needs numpy, scikit-image and
imageio: the environment of benches/peers/setup.sh.
"""

import argparse
import json
import statistics
import time

import imageio.v2 as imageio
import numpy as np
from skimage.measure import find_contours, regionprops


def postprocess(labels, min_area=10):
    for region in regionprops(labels):
        if region.area < min_area:
            labels[region.slice] = 0
    features = []
    for index, label in enumerate(np.unique(labels[labels > 0])):
        contours = find_contours(np.pad(labels == label, 1), 0.5)
        ring = max(contours, key=len) - 1
        coordinates = [[round(float(x), 6), round(float(y), 6)] for y, x in ring]
        features.append({
            "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [coordinates]},
            "properties": {"object_idx": index, "label": "object"},
        })
    return json.dumps(features, separators=(",", ":"))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("labels")
parser.add_argument("--rounds", type=int, default=2)
chosen = parser.parse_args()
image = np.asarray(imageio.imread(chosen.labels)).astype(np.int32)
times = []
for _ in range(chosen.rounds):
    begin = time.perf_counter()
    text = postprocess(image.copy())
    times.append(time.perf_counter() - begin)
print(f"{image.max()} objects, {image.shape[0]} x {image.shape[1]}: {1e3 * statistics.median(times):.0f} ms "
      f"[{1e3 * min(times):.0f}, {1e3 * max(times):.0f}], {len(text)} bytes")
