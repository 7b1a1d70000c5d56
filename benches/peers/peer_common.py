"""What the Python peers share: arguments, the data of the folder, timing, and the line of JSON at the end.

Imports nothing but the standard library until `limit_threads` has acted, so that every library sees its settings.
"""

import argparse
import json
import os
import sys
import time

BEGIN = time.perf_counter()
WARM_UP = 3
LEARNING_RATE = 1e-3
RAYS = 32
FILTERS = 32
DEPTH = 3
FEATURES = 128
VALIDATION_IMAGES = 2


def arguments(description, tasks, needs="weights.npy", flags=(), runtimes=()):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("task", choices=tasks)
    parser.add_argument("folder", help="folder that `peer data` wrote")
    parser.add_argument("--threads", type=int, default=2, help="compute threads, 2 by default")
    parser.add_argument("--steps", type=int, help="timed runs; for train200 optimiser steps")
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true", help="a variant, see above")
    if runtimes:
        parser.add_argument("--runtime", choices=runtimes, required=True)
    chosen = parser.parse_args()
    if chosen.threads < 1 or (chosen.steps is not None and chosen.steps < 1):
        parser.error("--threads and --steps must be at least 1")
    if not os.path.isfile(os.path.join(chosen.folder, needs)):
        parser.error(f"{chosen.folder} has no {needs}; let run.py write the data")
    limit_threads(chosen.threads)
    return chosen


def limit_threads(threads):
    """Keeps every library to the CPU and to that many threads; to be called before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def load_weights(folder, shapes):
    """The stored weights, cut into arrays of those shapes (kernels are [rows, columns, in, out])."""
    import numpy as np

    values = np.load(os.path.join(folder, "weights.npy"))
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != values.size:
        sys.exit(f"{folder}/weights.npy holds {values.size} values, the network has {sum(sizes)} parameters")
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def load_batch(folder):
    """Images [B, H, W, 1], object probability [B, h, w, 1], ray lengths [B, h, w, R] and their weight [B, h, w, 1]."""
    import numpy as np

    images, prob, dist, mask = (np.load(os.path.join(folder, f"batch_{name}.npy")) for name in ("images", "prob", "dist", "mask"))
    return images[..., None], prob[..., None], dist, mask[..., None]


def read_scaled(path):
    """An image scaled from its minimum and maximum to 0 and 1, as float32."""
    import imageio.v2 as imageio
    import numpy as np

    image = np.asarray(imageio.imread(path)).astype(np.float32)
    low, high = image.min(), image.max()
    return (image - low) / (high - low + np.float32(1e-20))


def timed(repeats, work, warm_up=1):
    """Milliseconds of each run of `work`, after some that do not count."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def compare_masks(ours, theirs):
    """Numbers of cells, and the fraction of the pixels that agree when each of our cells is paired with the cell of the
    others that it shares most pixels with."""
    import numpy as np

    width = int(theirs.max()) + 1
    pairs, counts = np.unique(ours.astype(np.int64) * width + theirs, return_counts=True)
    first, second = pairs // width, pairs % width
    same = counts[(first == 0) & (second == 0)].sum()
    taken = set()
    for at in np.argsort(-counts, kind="stable"):
        pair = (int(first[at]), int(second[at]))
        if 0 not in pair and ("ours", pair[0]) not in taken and ("theirs", pair[1]) not in taken:
            taken |= {("ours", pair[0]), ("theirs", pair[1])}
            same += counts[at]
    cells = [len(np.unique(masks[masks > 0])) for masks in (ours, theirs)]
    return {"cells": cells, "same": float(same / ours.size)}


def torch_pieces(chosen):
    """What `--bf16` and `--compile` make of a torch peer: a function that gives the context to compute in, and one that
    compiles a function for the shapes of its first call."""
    import contextlib

    import torch

    def numbers():
        return torch.autocast("cpu", dtype=torch.bfloat16) if chosen.bf16 else contextlib.nullcontext()

    def compiled(function):
        return torch.compile(function, dynamic=False) if chosen.compile else function

    return numbers, compiled


def torch_facts(chosen):
    """How many graphs were compiled, and how often a function fell into parts."""
    if not chosen.compile:
        return {}
    from torch._dynamo.utils import counters

    return {"graphs": counters["stats"]["unique_graphs"], "graph_breaks": sum(counters["graph_break"].values())}


def peak_mb():
    """The most memory that this process held."""
    try:
        # Not getrusage on Linux: its maximum includes that of the process that started this one.
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def report(peer, chosen, versions, result):
    """Prints the one line that run.py reads."""
    result.update(peer=peer, task=chosen.task, threads=chosen.threads, versions=versions, peak_mb=peak_mb())
    print(json.dumps(result), flush=True)
