#!/usr/bin/env python3
"""How scores change when every found outline moves in or out, for all images alike and for each image by itself.

    benches/quality/outline_offsets.py PRED TRUTH [--iou 0.75]

PRED and TRUTH are folders of label images of the same names; needs numpy, scipy, scikit-image and tifffile. An object is blurred by
one pixel and cut at a level: 0.5 leaves its outline where it is, above it shrinks, below it grows, by up to one pixel. The last line
takes for each image the level that fits its own truth best, so it says what the truth alone decides: where people drew the outlines
of one image wider than those of another, no network that sees one of them can follow.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from skimage.io import imread

LEVELS = [0.85, 0.72, 0.6, 0.5, 0.4, 0.28, 0.15]


def read(path):
    return (tifffile.imread(path) if path.suffix in (".tif", ".tiff") else imread(path)).astype(np.int64)


def moved(labels, level):
    """The objects of a label image, grown or shrunken; where two grow together, the nearer one has the pixel."""
    out, best = np.zeros_like(labels), np.full(labels.shape, level)
    for number in np.unique(labels[labels > 0]):
        share = gaussian_filter((labels == number).astype(float), 1.0, truncate=3)
        inside = share > best
        out[inside], best[inside] = number, share[inside]
    return out


def counts(truth, found, iou):
    """True positives, objects found, true objects; pairs as many as possible of at least `iou`."""
    # Background is the first value, whether or not there is any.
    rows, columns = (np.unique(np.append(labels, 0), return_inverse=True)[1].ravel()[:-1] for labels in (truth, found))
    shared = np.zeros((rows.max(initial=0) + 1, columns.max(initial=0) + 1))
    np.add.at(shared, (rows, columns), 1)
    union = shared.sum(1)[:, None] + shared.sum(0)[None] - shared
    fits = shared[1:, 1:] >= iou * union[1:, 1:]
    pairs = linear_sum_assignment(-fits.astype(float))
    return np.array([fits[pairs].sum(), fits.shape[1], fits.shape[0]])


def precision(total):
    hits, found, true = total
    return hits / max(found + true - hits, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pred", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--iou", type=float, default=0.75)
    options = parser.parse_args()
    truths = {path.stem: path for path in sorted(options.truth.iterdir())}
    founds = {path.stem: path for path in sorted(options.pred.iterdir())}
    names = sorted(truths.keys() & founds.keys())
    if not names:
        parser.error(f"no label image of {options.pred} has the name of one in {options.truth}")
    table = np.array([
        [counts(truth, moved(found, level), options.iou) for level in LEVELS]
        for truth, found in ((read(truths[name]), read(founds[name])) for name in names)
    ])
    for level, total in zip(LEVELS, table.sum(0)):
        print(f"all images cut at {level:.2f}: AP {precision(total):.3f}")
    chosen = table[:, :, 0].argmax(1)
    print("each image at its own level:", " ".join(f"{LEVELS[one]:.2f}" for one in chosen))
    print(f"AP {precision(table[np.arange(len(names)), chosen].sum(0)):.3f}")


if __name__ == "__main__":
    main()
