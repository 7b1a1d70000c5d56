#!/usr/bin/env python3
"""Compares watershed, distance transform and components with scikit-image and SciPy, in turn, on one machine.

Needs numpy, scipy 1.17 and scikit-image 0.26, and the example: cargo build --release -p cellsparse-core --example
peer_postprocess. Prints medians [smallest, largest] in milliseconds and ratios, and whether the answers are equal.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import skimage
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

ROOT = Path(__file__).resolve().parent.parent.parent

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2, help="of the example; the peers use one (default %(default)s)")
parser.add_argument("--side", type=int, default=2048)
parser.add_argument("--markers", type=int, default=4000)
parser.add_argument("--binary", type=Path, default=ROOT / "target/release/examples/peer_postprocess")
chosen = parser.parse_args()

random = np.random.default_rng(0)
shape = (chosen.side, chosen.side)
noise = random.random(shape, np.float32)
smooth = ndimage.gaussian_filter(random.random(shape, np.float32), 3)
markers = np.zeros(shape, np.int32)
markers.flat[random.choice(markers.size, chosen.markers, replace=False)] = np.arange(1, chosen.markers + 1)
mask = smooth > 0.495
minus = -ndimage.distance_transform_edt(mask)

TASKS = {
    "noise": ("watershed, noise", lambda: watershed(noise, markers)),
    "smooth": ("watershed, smooth noise", lambda: watershed(smooth, markers)),
    "mask": ("watershed, distances in a mask", lambda: watershed(minus, markers, mask=mask)),
    "edt": ("distance transform", lambda: ndimage.distance_transform_edt(mask)),
    "components": ("components, 4 neighbours", lambda: label(mask, connectivity=1)),
    "batch": ("batch of 8 crops of 224, no peer", None),
    "loss": ("loss and gradient of 8 crops of 224, no peer", None),
}


def spread(times):
    return f"{statistics.median(times):.1f} [{min(times):.1f}, {max(times):.1f}]"


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / "side").write_text(str(chosen.side))
    for name, array in {"noise": noise, "smooth": smooth, "markers": markers, "mask": mask.astype(np.uint8)}.items():
        (folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
    environment = {**os.environ, "RAYON_NUM_THREADS": str(chosen.threads)}
    ours = subprocess.Popen([chosen.binary, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    times = {name: ([], []) for name in TASKS}
    load = os.getloadavg()[0]
    for number in range(chosen.rounds + 1):
        ours.stdin.write("\n")
        ours.stdin.flush()
        found = json.loads(ours.stdout.readline())
        for name, (_, work) in TASKS.items():
            begin = time.perf_counter()
            answer = work() if work else None
            spent = (time.perf_counter() - begin) * 1e3
            if number == 0:  # warms up, and compares
                if work:
                    kind = np.float64 if name == "edt" else np.int32
                    theirs = np.fromfile(folder / f"our_{name}", kind).reshape(shape)
                    print(f"{name}: {'equal' if np.array_equal(theirs, answer) else 'NOT EQUAL'}", flush=True)
                continue
            times[name][0].append(found[name])
            times[name][1].append(spent)
    ours.stdin.close()
    ours.wait()

print(f"\n{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end; "
      f"Python {platform.python_version()}, scikit-image {skimage.__version__}, SciPy {scipy.__version__}; "
      f"{chosen.side} x {chosen.side}, {chosen.markers} markers, {chosen.threads} threads, {chosen.rounds} rounds\n")
print("| task | cellsparse, ms | peer, ms | peer / cellsparse |")
print("|---|---|---|---|")
for name, (title, work) in TASKS.items():
    us, them = times[name]
    ratio = f"{statistics.median(them) / statistics.median(us):.1f}" if work else ""
    print(f"| {title} | {spread(us)} | {spread(them) if work else ''} | {ratio} |")
