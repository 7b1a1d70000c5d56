#!/usr/bin/env python3
"""What becomes of a good model that goes on with two cells, and what models find in empty images.

usage: benches/quality/going_on.py PROGRAM SET [SET ...] [-- OPTION ...]

PROGRAM is a built `cellsparse`, each SET a folder with train/images, train/masks, train/sparse/k4 (wire), test/images and
test/masks. Every algorithm is trained on k4 for 100 steps of 4 x 128 x 128 (seed 1), scored on the test images, asked for
objects in images of 256 x 256 pixels without any, and trained on (`--init`) for 70 steps with the two brightest cells of each
training image and its background; OPTIONs, such as `--lr 0.0003`, go to that training. Needs NumPy and Pillow.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ("--batch-size", "4", "--patch-size", "128", "--seed", "1")


def write_empty(folder):
    random = np.random.default_rng(0)
    side = (256, 256)
    pictures = {
        "zeros": np.zeros(side),
        "constant": np.full(side, 70),
        "noise1": 100 + random.integers(0, 2, side),
        "noise5": 100 + 5 * random.standard_normal(side),
        "noise30": 100 + 30 * random.standard_normal(side),
        "uniform": random.integers(0, 256, side),
        "poisson3": random.poisson(3, side),
        "hot": np.where(random.random(side) < 0.0033, 255, 10),
    }
    for name, values in pictures.items():
        grey = Image.fromarray(np.clip(values, 0, 255).astype("u1"))
        for channels in (1, 3):
            (folder / str(channels)).mkdir(parents=True, exist_ok=True)
            (grey if channels == 1 else grey.convert("RGB")).save(folder / str(channels) / f"{name}.png")


def main():
    words, extra = sys.argv[1:], []
    if "--" in words:
        at = words.index("--")
        words, extra = words[:at], words[at + 1 :]
    if len(words) < 2:
        sys.exit(__doc__)
    program, sets = words[0], [Path(word) for word in words[1:]]

    def run(*line):
        done = subprocess.run([program, *map(str, line), "--json"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, line))}: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout)

    def accuracy(model, data, out):
        run("predict", "--model", model, "--images", data / "test/images", "--out", out)
        scores = run("evaluate", "--pred", out, "--truth", data / "test/masks", "--thresholds", "0.5")
        return scores["thresholds"][0]["accuracy"]

    print("| set | algorithm | AP before | after | kept | objects in empty images |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_empty(work / "empty")
        for data in sets:
            two, images = work / f"{data.name}-two", data / "train/images"
            two_cells = ("--k", "2", "--mode", "max", "--background")
            line = [program, "sparsify", "--images", images, "--labels", data / "train/masks", "--out", two, *two_cells]
            subprocess.run(list(map(str, line)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for algorithm in ("stardist", "cellpose", "elephant"):
                model, more = work / "model.safetensors", work / "more.safetensors"
                given = ("--images", images, "--label-encoding", "wire", *SMALL)
                sparse = data / "train/sparse/k4"
                run("train", "--algorithm", algorithm, "--labels", sparse, "--model", model, "--steps", 100, *given)
                before = accuracy(model, data, work / f"{data.name}-{algorithm}")
                channels = run("info", model)["config"]["n_channels"]
                found = run("predict", "--model", model, "--images", work / "empty" / str(channels), "--out", work / "none")
                trained = run("train", "--algorithm", algorithm, "--labels", two, "--init", model, "--model", more, "--steps", 70, *given, *extra)
                after = accuracy(more, data, work / f"{data.name}-{algorithm}-more")
                objects = sum(one["objects"] for one in found)
                print(f"| {data.name} | {algorithm} | {before:.3f} | {after:.3f} | {trained['kept']} | {objects} |", flush=True)


if __name__ == "__main__":
    main()
