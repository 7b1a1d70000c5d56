#!/usr/bin/env python3
"""Compares what turns labels into targets and maps into objects with the packages stardist and cellpose, in turn, in one process.

Needs the environment of `benches/peers/setup.sh tensorflow cellpose` with the wheel in it (`pip install cellsparse-py/`, or one of
`make dist`). Prints medians [smallest, largest] in milliseconds, ratios, and how far the answers agree. Every program gets as many
threads as `--threads` says; a number after the other, each in a process of its own.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", default="1,2", help="one number after the other (default %(default)s)")
parser.add_argument("--side", type=int, default=2048, help="of the label image (default %(default)s)")
parser.add_argument("--candidates", type=int, default=1_000_000, help="of the suppression, about (default %(default)s)")
parser.add_argument("--tasks", default="", help="some of them, separated by commas")
chosen = parser.parse_args()

if "," in chosen.threads:
    for number in chosen.threads.split(","):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--threads", number], check=True)
    sys.exit()

for name in ("RAYON", "OMP", "NUMBA", "MKL"):
    os.environ[f"{name}_NUM_THREADS"] = chosen.threads
# These heed the variables when they are loaded.
import cellpose.dynamics  # noqa: E402
import cellpose.utils  # noqa: E402
import numpy as np  # noqa: E402
import stardist.geometry  # noqa: E402
import stardist.matching  # noqa: E402
import stardist.nms  # noqa: E402
import stardist.utils  # noqa: E402
import torch  # noqa: E402

import cellsparse as cs  # noqa: E402

torch.set_num_threads(int(chosen.threads))
RAYS, PITCH = 32, 24
random = np.random.default_rng(0)


def nuclei(side):
    """Roundish objects of 16 to 28 pixels on a shaken grid, some of which touch."""
    steps = np.arange(PITCH // 2, side, PITCH)
    points = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) + random.uniform(-3, 3, (len(steps) ** 2, 2))
    turns = np.arange(RAYS) * 2 * np.pi / RAYS
    waves = sum(random.uniform(0, 0.12, (len(points), 1)) * np.cos(n * turns + random.uniform(0, 7, (len(points), 1))) for n in (2, 3))
    return cs.stardist.polygons_to_label(random.uniform(8, 14, (len(points), 1)) * (1 + waves), points, (side, side))


def shifted(labels):
    """The same objects two pixels to the right, one in ten of them lost."""
    moved = np.roll(labels, 2, axis=1)
    moved[np.isin(moved, random.choice(labels.max(), labels.max() // 10, replace=False) + 1)] = 0
    return moved


labels = nuclei(chosen.side)
crowd = nuclei(int((chosen.candidates / 0.7) ** 0.5))
dist = cs.stardist.star_dist(crowd, RAYS) + random.normal(0, 0.3, (*crowd.shape, RAYS)).astype(np.float32).clip(-0.5, 0.5)
dist = np.maximum(dist, 1e-3)
prob = np.where(crowd > 0, cs.stardist.edt_prob(crowd) * 0.8 + 0.1, 0).astype(np.float32)
prob += np.where(crowd > 0, random.uniform(0, 0.1, crowd.shape), 0).astype(np.float32)
points = np.argwhere(prob > 0.05)
drawn_dist, drawn_points = (array[:: len(points) // 20000 or 1][:20000] for array in (dist[tuple(points.T)], points))
flows = (5 * cs.cellpose.masks_to_flows(labels) + random.normal(0, 0.5, (2, *labels.shape))).astype(np.float32)
logits = (np.where(labels > 0, 4.0, -4.0) + random.normal(0, 1, labels.shape)).astype(np.float32)
few, many = nuclei(100 * PITCH), nuclei(447 * PITCH)
others = shifted(few), shifted(many)
huge = np.ones((4096, 4096), np.int32)
huge[:64], huge[:, :64] = 0, 0


def apart(ours, theirs):
    return f"at most {np.abs(np.asarray(ours, float) - theirs).max():.1g} apart"


def same_pixels(ours, theirs):
    return f"{(np.asarray(ours) == theirs).mean():.5f} of the pixels equal"


def same_objects(ours, theirs):
    found = stardist.matching.matching(theirs, np.asarray(ours), thresh=0.99)
    return f"{found.tp} of {found.n_true} and {found.n_pred} objects equal but for one pixel in a hundred"


def same_points(ours, theirs):
    a, b = ({tuple(point) for point in found[0].tolist()} for found in (ours, theirs))
    return f"{len(a & b)} of {len(a | b)} centres equal"


def same_scores(ours, theirs):
    return "equal" if (ours.tp, ours.fp, ours.fn) == (theirs.tp, theirs.fp, theirs.fn) else f"NOT EQUAL: {ours} {theirs}"


def same_number(ours, theirs):
    return f"{len(ours)} and {len(theirs)} outlines"


# Name, ours, the peer's (none where the package needs a table of all pairs, or was not waited for), and what is compared.
TASKS = {
    "edt_prob": (f"object probabilities, {labels.max()} nuclei", lambda: cs.stardist.edt_prob(labels),
                 lambda: stardist.utils.edt_prob(labels), apart),
    "star_dist": (f"{RAYS} rays of every pixel", lambda: cs.stardist.star_dist(labels, RAYS),
                  lambda: stardist.geometry.star_dist(labels, RAYS), apart),
    "nms": (f"suppression of {len(points):,} candidates",
            lambda: cs.stardist.non_maximum_suppression(dist, prob, b=None, prob_thresh=0.05, nms_thresh=0.4),
            lambda: stardist.nms.non_maximum_suppression(dist, prob, b=None, prob_thresh=0.05, nms_thresh=0.4), same_points),
    "draw": (f"drawing of {len(drawn_points):,} polygons",
             lambda: cs.stardist.polygons_to_label(drawn_dist, drawn_points, crowd.shape),
             lambda: stardist.geometry.polygons_to_label(drawn_dist, drawn_points, crowd.shape), same_pixels),
    "flows": ("flows of the nuclei", lambda: cs.cellpose.masks_to_flows(labels),
              lambda: cellpose.dynamics.masks_to_flows(labels), apart),
    "masks": ("masks of noisy flows", lambda: cs.cellpose.compute_masks(flows, logits),
              lambda: cellpose.dynamics.compute_masks(flows, logits, niter=200, flow_threshold=0.4), same_objects),
    "outlines": ("outlines", lambda: cs.to_geojson(labels),
                 lambda: cellpose.utils.outlines_list(labels, multiprocessing=False), same_number),
    "matching": (f"matching of {few.max():,} objects", lambda: cs.metrics.matching(few, others[0]),
                 lambda: stardist.matching.matching(few, others[0]), same_scores),
    "matching-many": (f"matching of {many.max():,} objects", lambda: cs.metrics.matching(many, others[1]), None, None),
    "flows-huge": ("flows of one object of 4032 x 4032 pixels", lambda: cs.cellpose.masks_to_flows(huge), None, None),
}


def timed(work):
    begin = time.perf_counter()
    answer = work()
    return answer, (time.perf_counter() - begin) * 1e3


def spread(times):
    return f"{statistics.median(times):.1f} [{min(times):.1f}, {max(times):.1f}]"


load = os.getloadavg()[0]
print(f"\n{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; Python {platform.python_version()}, "
      f"stardist {stardist.__version__}, cellpose 3.1.1.3, torch {torch.__version__}; {labels.shape[0]} x {labels.shape[1]}, "
      f"{chosen.threads} threads, {chosen.rounds} rounds\n")
print("| task | cellsparse, ms | peer, ms | ratio | answers |\n|---|---|---|---|---|", flush=True)
for name in chosen.tasks.split(",") if chosen.tasks else TASKS:
    title, ours, theirs, compare = TASKS[name]
    times = [], []
    for number in range(chosen.rounds + (theirs is not None)):  # the first one of a pair compiles, and is compared
        found, spent = timed(ours)
        other, spent_there = timed(theirs) if theirs else (None, 0.0)
        if theirs and number == 0:
            agreement = compare(found, other)
            continue
        times[0].append(spent)
        times[1].append(spent_there)
    if theirs:
        ratio = statistics.median(times[0]) / statistics.median(times[1])
        print(f"| {title} | {spread(times[0])} | {spread(times[1])} | {ratio:.2f} | {agreement} |", flush=True)
    else:
        print(f"| {title} | {spread(times[0])} | | | |", flush=True)
