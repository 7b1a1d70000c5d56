#!/usr/bin/env python3
"""Prints with which kernels and numbers the peers compute, to see that each of them is what its name says.

Runs each peer once with ONEDNN_VERBOSE=profile_exec, which torch and TensorFlow heed; OpenVINO's answer is that of its
compiled network. onnxruntime has kernels of its own for 32 bits and tells nothing. Needs what run.py needs, and the data
that it leaves.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sides import PEERS, RIVAL_TASKS

FOLDER = Path(__file__).resolve().parent.parent.parent / "target" / "peers"
# Kernels that take less of the time are not told.
LEAST_SHARE = 0.01


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="step,predict", help=f"comma-separated: {', '.join(RIVAL_TASKS)} (default %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--venv", type=Path, default=os.environ.get("PEERS_VENV", FOLDER / ".venv"))
    parser.add_argument("--data", type=Path, default=FOLDER / "data")
    parser.add_argument("--avx2", action="store_true", help="kept to AVX2, as by run.py")
    chosen = parser.parse_args()
    chosen.steps = chosen.repeats = chosen.train_steps = 1
    return chosen


def kernel_of(line):
    """What computed, with which numbers, and the milliseconds, of one line of oneDNN; none of other lines."""
    parts = line.rstrip().split(",")
    if not parts[0].startswith("onednn_verbose") or "exec" not in parts:
        return None
    kind, name, direction = parts[parts.index("exec") + 2 :][:3]
    numbers = re.search(r"(?:src|diff_src|src0)[_:]([a-z0-9]+)", line)
    try:
        return f"{kind} {direction} {name} {numbers.group(1) if numbers else ''}".strip(), float(parts[-1])
    except ValueError:
        return None


def main():
    chosen = parse()
    for task in chosen.tasks.split(","):
        for name in chosen.peers.split(","):
            side = PEERS[name]
            if task not in side.tasks:
                continue
            # OpenVINO 2026.4.1 fails with this variable (findings/openvino-onednn-verbose.sh).
            asked = {} if "--runtime" in side.flags else {"ONEDNN_VERBOSE": "profile_exec"}
            environment = {**side.surroundings(chosen), **asked}
            done = subprocess.run(
                side.command(task, chosen, None), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            lines = done.stdout.splitlines()
            result = next((json.loads(line) for line in lines if line.startswith("{")), None)
            if result is None:
                print("\n".join(lines[-15:]), file=sys.stderr)
                sys.exit(f"{name} {task} gave no result")
            spent, calls = collections.Counter(), collections.Counter()
            for kernel in filter(None, map(kernel_of, lines)):
                spent[kernel[0]] += kernel[1]
                calls[kernel[0]] += 1
            whole = sum(spent.values())
            print(f"\n{name} {task}" + (f": {whole:.0f} ms in oneDNN, warm-up included" if asked else ""))
            for kernel, time in spent.most_common():
                if time >= LEAST_SHARE * whole:
                    print(f"  {100 * time / whole:5.1f} %  {calls[kernel]:5d} x {kernel}")
            for kernel, count in sorted(result.get("kernels", {}).items()):
                print(f"           {count:5d} x {kernel}")


if __name__ == "__main__":
    main()
