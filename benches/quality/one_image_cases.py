#!/usr/bin/env python3
"""One-image cases for development: an image to annotate and its look-alikes to score on, from the training images.

usage: one_image_cases.py DATA OUT [COUNT]
reads  DATA/dsb2018/train/{images,masks} and the stroke rules of DATA/tools/make_sparse.py
writes OUT/CASE/train/{images,masks,sparse/scribble,sparse/far} with one image, OUT/CASE/test/{images,masks} with up to 8

Look-alikes have the same size and are nearest in background level, contrast, median area and number of nuclei. The
images of the final table (dsb2018/siblings_00071198.txt and the image they belong to) are left out. Needs numpy,
scipy, scikit-image and Pillow. `quality OUT/CASE scribble far` then trains and scores.
"""
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def features(image, mask):
    inside = mask > 0
    areas = np.bincount(mask.ravel())[1:]
    areas = areas[areas > 0]
    background, cells = np.median(image[~inside]), np.median(image[inside])
    return [
        np.log(background + 4),
        np.log(max(cells - background, 1)),
        np.log(np.median(areas)),
        0.5 * np.log(len(areas)),
    ]


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 6
    spec = importlib.util.spec_from_file_location("make_sparse", data / "tools/make_sparse.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    root = data / "dsb2018/train"
    held_out = (data / "dsb2018/siblings_00071198.txt").read_text().split() + ["00071198"]
    held_out = [name.removesuffix(".png") for name in held_out]
    names, sizes, rows = [], [], []
    for file in sorted((root / "masks").glob("*.png")):
        if any(name in file.stem for name in held_out):
            continue
        image = np.asarray(Image.open(root / "images" / file.name)).astype(float)
        mask = np.asarray(Image.open(file)).astype(int)
        if np.unique(mask).size - 1 < 8:
            continue
        names.append(file.name)
        sizes.append(mask.shape)
        rows.append(features(image, mask))
    rows = np.asarray(rows)
    # Farthest points first, so that the cases differ, beginning with the most typical image.
    chosen = [int(np.argmin(((rows - np.median(rows, 0)) ** 2).sum(1)))]
    scale = rows.std(0)
    while len(chosen) < count:
        far = np.min([(((rows - rows[i]) / scale) ** 2).sum(1) for i in chosen], axis=0)
        # A case needs look-alikes: images without enough close ones are passed over.
        for i in np.argsort(-far):
            if len(look_alikes(rows / scale, sizes, int(i), 1.0)) >= 4:
                chosen.append(int(i))
                break
    for number, i in enumerate(chosen):
        siblings = look_alikes(rows / scale, sizes, i, 1.5)[:8]
        case = out / f"case{number}"
        for part, members in (("train", [i]), ("test", siblings)):
            for kind in ("images", "masks"):
                folder = case / part / kind
                folder.mkdir(parents=True, exist_ok=True)
                for member in members:
                    shutil.copy(root / kind / names[member], folder / names[member])
        image = np.asarray(Image.open(root / "images" / names[i])).astype(np.float32)
        mask = np.asarray(Image.open(root / "masks" / names[i])).astype(np.int32)
        for mode in ("scribble", "far"):
            folder = case / "train/sparse" / mode
            folder.mkdir(parents=True, exist_ok=True)
            labels = tool.scribble(image, mask, Path(names[i]).stem, mode == "scribble")
            Image.fromarray(labels).save(folder / names[i])
        print(case.name, names[i][:8], sizes[i], "nuclei", mask.max(), "look-alikes", len(siblings), np.exp(rows[i]).round(1))


def look_alikes(rows, sizes, i, limit):
    distance = np.sqrt(((rows - rows[i]) ** 2).sum(1))
    order = [int(k) for k in np.argsort(distance) if k != i and sizes[k] == sizes[i] and distance[k] <= limit]
    return order


if __name__ == "__main__":
    main()
