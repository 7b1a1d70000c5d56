#!/usr/bin/env python3
"""Segments one large tiled TIFF by parts: this crate, StarDist's `predict_instances_big` and Cellpose's tiled run, in turn.

    benches/peers/setup.sh tensorflow cellpose                # once, the pinned peers
    benches/large/peers.py [--side 8192] [--rounds 1] [--threads 2] [--only stardist,cellpose]
    benches/large/peers.py --grow 2048,8192,20000             # this crate alone: time and memory as the image grows

The image repeats 16 drawn fields of 512 x 512 (about 500 nuclei a megapixel). Every side reads it from the file and writes 32-bit
labels to one; a pair has the same weights, learned on four of the fields. Each run is a process of its own: time is that of the
whole process, memory its largest. Standard output gets the tables, standard error the progress.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / "target/peers/.venv/bin/python"
FOLDER = ROOT / "target/large"
TILE = 512
FIELDS = 16
CELLSPARSE = ROOT / "target/release/cellsparse"
PEERS = {"stardist": "stardist 0.9.2, TensorFlow 2.15.1", "cellpose": "cellpose 3.1.1.3, torch 2.15.0"}
# Of training, on four of the fields.
STEPS = {"stardist": 120, "cellpose": 60}


def say(text):
    print(text, file=sys.stderr, flush=True)


def build():
    build = ["cargo", "build", "--release", "--quiet"]
    subprocess.run([*build, "-p", "cellsparse-cli"], cwd=ROOT, check=True)
    subprocess.run([*build, "--workspace", "--example", "large"], cwd=ROOT, check=True)


def prepare():
    """The drawn fields, and for each algorithm the weights for both sides."""
    fields = FOLDER / "fields"
    drawn = FOLDER / "drawn"
    if not drawn.is_dir():
        subprocess.run([ROOT / "target/release/examples/large", "--fields", fields], check=True)
        for path in sorted(fields.glob("*/0[0-3].*")):
            (drawn / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, drawn / path.parent.name)
    for algorithm, steps in STEPS.items():
        model = FOLDER / f"{algorithm}.safetensors"
        if not model.exists():
            say(f"large: {steps} steps of {algorithm}")
            train = [CELLSPARSE, "train", "--algorithm", algorithm, "--images", drawn / "images", "--labels", drawn / "labels"]
            begin = ["--init", wide_cellpose()] if algorithm == "cellpose" else []
            subprocess.run([*map(str, [*train, *begin, "--steps", steps, "--model", model])], check=True)
        for target in [f"{FOLDER}/2D_large/"] if algorithm == "stardist" else [f"{FOLDER}/cellpose.pth"]:
            if not Path(target).exists():
                subprocess.run([CELLSPARSE, "convert", "--from", model, "--to", target], check=True)


def wide_cellpose():
    """The package's own network with random weights, which is wider than the one of this crate."""
    path = FOLDER / "random.safetensors"
    make = "from cellpose.models import CellposeModel as M; import sys; M(gpu=False, pretrained_model=False).net.save_model(sys.argv[1])"
    subprocess.run([PYTHON, "-c", make, FOLDER / "random.pth"], check=True)
    subprocess.run([CELLSPARSE, "convert", "--from", FOLDER / "random.pth", "--to", path], check=True)
    return path


def write_image(path, side):
    """Tiles of 512 in the order of the example `large`."""
    if path.exists():
        return
    program = f"""
import numpy as np, imageio.v2 as imageio, tifffile
fields = [imageio.imread("{FOLDER}/fields/images/%02d.png" % number) for number in range({FIELDS})]
side = {side}
def tiles():
    for y in range(-(-side // {TILE})):
        for x in range(-(-side // {TILE})):
            field = fields[(y * 7 + x * 3) % {FIELDS}].copy()
            field[side - y * {TILE} if side - y * {TILE} < {TILE} else {TILE}:] = 0
            field[:, side - x * {TILE} if side - x * {TILE} < {TILE} else {TILE}:] = 0
            yield field
tifffile.imwrite("{path}.part", tiles(), shape=(side, side), dtype=np.uint8, tile=({TILE}, {TILE}), bigtiff=True)
"""
    say(f"large: writing {path}")
    subprocess.run([PYTHON, "-c", program], check=True)
    Path(f"{path}.part").rename(path)


def ours(algorithm, image, threads, memory):
    out = FOLDER / f"ours_{algorithm}"
    command = [CELLSPARSE, "predict", "--model", FOLDER / f"{algorithm}.safetensors", "--images", image, "--out", out,
               "--format", "labels", "--memory", memory, "--threads", threads]
    # The package's own values, since weights take none along.
    return command + (["--flow-threshold", 0.4, "--cellprob-threshold", 0] if algorithm == "cellpose" else [])


def peer(algorithm, image, threads):
    return [PYTHON, __file__, "--peer", algorithm, "--image", image, "--threads", threads]


def run_peer(algorithm, image, threads):
    """What a user of the package would run; prints one line of JSON."""
    sys.path.insert(0, str(ROOT / "benches/peers"))
    from peer_common import limit_threads

    limit_threads(threads)
    import numpy as np
    import tifffile

    target = FOLDER / f"peer_{algorithm}.tif"
    if algorithm == "stardist":
        import tensorflow
        from csbdeep.utils import normalize
        from stardist.models import StarDist2D

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        model = StarDist2D(None, name="2D_large", basedir=str(FOLDER))
        pixels = normalize(tifffile.imread(image), 1, 99.8)
        block = min(4096, *pixels.shape)
        labels, _ = model.predict_instances_big(pixels, axes="YX", block_size=block, min_overlap=64, show_progress=False)
    else:
        import torch
        from cellpose.models import CellposeModel

        torch.set_num_threads(threads)
        model = CellposeModel(gpu=False, pretrained_model=str(FOLDER / "cellpose.pth"))
        # Without a diameter it takes that of the training, which the weights hold.
        labels, _, _ = model.eval(tifffile.imread(image), channels=[0, 0])
    tifffile.imwrite(target, labels.astype(np.int32), tile=(TILE, TILE))
    print(json.dumps({"objects": int(len(np.unique(labels)) - 1)}))


def measured(command):
    """Seconds of the process, its largest memory in MiB, and what it wrote."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err, text=True)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        out.seek(0), err.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(map(str, command))}: {err.read()}")
        return seconds, used.ru_maxrss / 1024, out.read() + err.read()


def objects_of(text):
    """The number that a peer, or the command, tells."""
    found = re.search(r'"objects": (\d+)|(\d+) objects?\b', text)
    if found is None:
        sys.exit(f"no number of objects in {text}")
    return int(found[1] or found[2])


def row(name, side, runs):
    seconds = [run[0] for run in runs]
    middle = statistics.median(seconds)
    spread = f" [{min(seconds):.1f}, {max(seconds):.1f}]" if len(runs) > 1 else ""
    memory = max(run[1] for run in runs)
    print(f"| {name} | {middle:.1f}{spread} | {side * side / 1e6 / middle:.2f} | {memory:.0f} | {runs[0][2]} |", flush=True)


def head(first):
    print(f"| {first} | seconds | megapixels a second | peak, MiB | objects |\n|---|---|---|---|---|", flush=True)


def compare(chosen):
    image = FOLDER / f"field_{chosen.side}.tif"
    write_image(image, chosen.side)
    print(f"{chosen.side} x {chosen.side} pixels, {chosen.threads} threads, {chosen.rounds} rounds\n")
    head("side")
    ratios = {}
    for algorithm in chosen.only:
        sides = {"cellsparse": ours(algorithm, image, chosen.threads, chosen.memory), "peer": peer(algorithm, image, chosen.threads)}
        runs = {name: [] for name in sides}
        for number in range(chosen.rounds):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                say(f"large: {algorithm}, {name}")
                seconds, memory, text = measured(sides[name])
                runs[name].append((seconds, memory, objects_of(text)))
        row(f"{algorithm}, cellsparse", chosen.side, runs["cellsparse"])
        row(f"{algorithm}, {PEERS[algorithm]}", chosen.side, runs["peer"])
        ratios[algorithm] = statistics.median(a[0] / b[0] for a, b in zip(runs["cellsparse"], runs["peer"]))
    print("\nratio of the time to the peer's: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


def grow(chosen):
    head("side, algorithm")
    for side in map(int, chosen.grow.split(",")):
        image = FOLDER / f"field_{side}.tif"
        write_image(image, side)
        for algorithm in chosen.only:
            say(f"large: {algorithm}, {side}")
            seconds, memory, text = measured(ours(algorithm, image, chosen.threads, chosen.memory))
            row(f"{side}, {algorithm}", side, [(seconds, memory, objects_of(text))])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="1G", help="what this crate may take (default %(default)s)")
    parser.add_argument("--only", default="stardist,cellpose", type=lambda text: text.split(","))
    parser.add_argument("--grow", metavar="SIDES", help="this crate alone, on images of these sides")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peer:
        return run_peer(chosen.peer, chosen.image, chosen.threads)
    if not PYTHON.exists():
        sys.exit("large: no peers; run benches/peers/setup.sh tensorflow cellpose first")
    FOLDER.mkdir(parents=True, exist_ok=True)
    build()
    prepare()
    grow(chosen) if chosen.grow else compare(chosen)


if __name__ == "__main__":
    main()
