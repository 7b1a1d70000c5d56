#!/usr/bin/env python3
"""Measures cellsparse and its peers in turn on this machine and prints a table of medians and ratios.

Needs the environment of setup.sh. Standard library only. See README.md beside this file.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target" / "peers"
OURS = "cellsparse"
# The tasks of each group, and who can do them beside this crate.
GROUPS = {
    "stardist": {
        "step": ("tensorflow", "torch"), "predict": ("tensorflow", "torch"), "train200": ("tensorflow",),
        "cold": ("tensorflow", "torch"),
    },
    "cellpose": {
        "cellpose-step": ("cellpose", "torch"), "cellpose-narrow": (), "cellpose-predict": ("cellpose", "torch"),
        "cellpose-masks": ("cellpose",),
    },
    "elephant": {"elephant-step": ("torch",)},
    "postprocess": {"postprocess": ()},
}
TASKS = tuple(task for tasks in GROUPS.values() for task in tasks)
PEERS = ("tensorflow", "torch", "cellpose")
# What writes the data of a group, and a file that it leaves: with this crate, then with the package.
DATA = {
    "stardist": (("data", "batch_dist.npy"), None),
    "cellpose": (("cellpose-data", "cellpose.pth"), ("cellpose-data", "flows_2048.npy")),
    "elephant": (("elephant-data", "elephant.pth"), None),
    "postprocess": (None, None),
}

# Rows of the table: title, task, name of the times in the result or None for the peak memory, unit, divisor.
ROWS = (
    ("training step", "step", "step", "ms", 1),
    ("peak memory, training steps", "step", None, "MB", 1),
    ("prediction 1024x1024, network alone", "predict", "network", "ms", 1),
    ("prediction 1024x1024, file to objects", "predict", "full", "ms", 1),
    ("peak memory, prediction", "predict", None, "MB", 1),
    ("training end to end", "train200", "train", "s", 1000),
    ("peak memory, training end to end", "train200", None, "MB", 1),
    ("cold start to first result", "cold", "cold", "ms", 1),
    ("training step, network of the package", "cellpose-step", "step", "ms", 1),
    ("peak memory, training steps", "cellpose-step", None, "MB", 1),
    ("training step, default network of cellsparse", "cellpose-narrow", "step", "ms", 1),
    ("peak memory, its training steps", "cellpose-narrow", None, "MB", 1),
    ("1024x1024, image to flows", "cellpose-predict", "network", "ms", 1),
    ("peak memory, image to flows", "cellpose-predict", None, "MB", 1),
    *(
        (f"{side}x{side}, {title}", "cellpose-masks", f"{name}{side}", "ms", 1)
        for side in (1024, 2048)
        for name, title in (
            ("flows", "masks to flows"), ("filtered", "flows to masks"), ("unfiltered", "flows to masks, no flow filter"),
        )
    ),
    ("peak memory, flows and masks", "cellpose-masks", None, "MB", 1),
    ("training step", "elephant-step", "step", "ms", 1),
    ("peak memory, training steps", "elephant-step", None, "MB", 1),
)

# Numbers that must agree between the sides: task, name, largest relative difference.
CHECKS = (
    ("step", "loss", 0.002), ("predict", "objects", 0.02), ("cellpose-step", "loss", 0.002),
    ("cellpose-predict", "mean", 0.002), ("cellpose-masks", "objects", 0.002), ("elephant-step", "loss", 0.002),
)
# Fraction of the pixels whose flows or masks must agree.
AGREEMENT = 0.999


def say(text):
    print(f"run: {text}", file=sys.stderr, flush=True)


def stop(text):
    say(text)
    sys.exit(1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", default=",".join(GROUPS), help=f"comma-separated groups or tasks: %(default)s; {', '.join(TASKS)}"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated subset of: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each runs everything once (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="compute threads for everyone (default %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="timed training steps in a run (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed predictions in a run (default %(default)s)")
    parser.add_argument("--train-steps", type=int, default=200, help="steps of train200 (default %(default)s)")
    parser.add_argument(
        "--busy", type=int, metavar="NICE",
        help="measure beside one busy process for each thread, of this priority: 0 equal, 19 the lowest",
    )
    parser.add_argument("--binary", type=Path, help="a built example `peer`; by default it is built with --release")
    parser.add_argument("--venv", type=Path, default=os.environ.get("PEERS_VENV", FOLDER / ".venv"))
    parser.add_argument("--data", type=Path, default=FOLDER / "data", help="made when it is absent")
    parser.add_argument("--data-steps", type=int, default=200, help="training steps of the model in the data (default %(default)s)")
    parser.add_argument("--out", type=Path, help="file for the single results, one JSON line each")
    chosen = parser.parse_args()
    for name, known in (("tasks", TASKS), ("peers", PEERS)):
        wanted = [part for part in getattr(chosen, name).split(",") if part]
        if name == "tasks":
            wanted = [task for part in wanted for task in (GROUPS.get(part) if part not in TASKS else [part]) or [part]]
        unknown = [part for part in wanted if part not in known]
        if unknown or (name == "tasks" and not wanted):
            parser.error(f"--{name} {','.join(wanted)}: choose among {', '.join(known)}")
        setattr(chosen, name, wanted)
    if chosen.busy is not None and not 0 <= chosen.busy <= 19:
        parser.error("--busy must be 0 to 19")
    for name in ("rounds", "threads", "steps", "repeats", "train_steps", "data_steps"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return chosen


def build(chosen):
    """The built examples `peer` and `peer_postprocess`."""
    if chosen.binary is not None:
        if not chosen.binary.is_file():
            stop(f"there is no {chosen.binary}")
        return chosen.binary.resolve(), chosen.binary.resolve().with_name("peer_postprocess")
    if shutil.which("cargo") is None:
        stop("cargo is not on the path; install Rust, or name a built example with --binary")
    say("building the examples (release)")
    names = ("peer", "peer_postprocess")
    command = ["cargo", "build", "--release", "-p", "cellsparse-core", "--message-format=json"]
    command += [word for name in names for word in ("--example", name)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        stop("the examples do not build; see above")
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = Path(message["executable"])
    if not all(name in found for name in names):
        stop("cargo did not name the executables of the examples")
    return tuple(found[name] for name in names)


def pin(threads):
    """Keeps this process and its children on as many processors as there are threads, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < threads:
        stop(f"{threads} threads on {len(allowed)} processors; choose fewer with --threads")
    os.sched_setaffinity(0, allowed[:threads])
    return f"processors {','.join(map(str, allowed[:threads]))} of {len(allowed)}"


@contextlib.contextmanager
def busy(chosen):
    """Processes that want all processors, as a browser or an indexer may."""
    loops = []
    if chosen.busy is not None:
        command = ["nice", "-n", str(chosen.busy), sys.executable, "-c", "while True: pass"]
        loops = [subprocess.Popen(command) for _ in range(chosen.threads)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def group_of(task):
    return next(group for group, tasks in GROUPS.items() if task in tasks)


def peers_of(task, chosen):
    return [peer for peer in chosen.peers if peer in GROUPS[group_of(task)][task]]


def python_of(who, group, task, chosen):
    """The command of a peer: for Cellpose and ELEPHANT one script for all, in which torch is at its fastest."""
    best = who == "torch" and group == "cellpose"
    script = f"peer_{who if group == 'stardist' else group}.py"
    return [str(chosen.venv / "bin" / "python"), str(HERE / script), task, str(chosen.data), *(["--best"] if best else [])]


def command_of(who, task, chosen, binary):
    group = group_of(task)
    head = [str(binary), task, str(chosen.data)] if who == OURS else python_of(who, group, task, chosen)
    kind = task.rpartition("-")[2]
    count = {"predict": chosen.repeats, "masks": chosen.repeats, "train200": chosen.train_steps, "cold": None}
    count = count.get(kind, chosen.steps)
    return [*head, "--threads", str(chosen.threads), *(["--steps", str(count)] if count else [])]


def measure(who, task, chosen, binary):
    """One process. Returns its line; for `cold` the time is from here to the line's arrival."""
    with tempfile.TemporaryFile("w+") as messages:
        start = time.perf_counter()
        process = subprocess.Popen(command_of(who, task, chosen, binary), stdout=subprocess.PIPE, stderr=messages, text=True)
        line = process.stdout.readline()
        arrived = 1e3 * (time.perf_counter() - start)
        process.stdout.read()
        code = process.wait()
        messages.seek(0)
        tail = "".join(messages.readlines()[-15:])
    if code or not line.startswith("{"):
        stop(f"{who} {task} ended with status {code} and no result; its last messages:\n{tail}{line}")
    result = json.loads(line)
    if task == "cold":
        result["ms"]["cold"] = [arrived]
    return result


def values_of(result, key, divisor):
    values = [result["peak_mb"]] if key is None else result["ms"].get(key, [])
    return [value / divisor for value in values if value is not None]


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(values, write=number):
    if len(values) == 1:
        return write(values[0])
    return f"{write(statistics.median(values))} [{write(min(values))}, {write(max(values))}]"


def table(results, chosen, group):
    """Medians with the smallest and the largest value; ratios are taken within a round."""
    tasks = [task for task in GROUPS[group] if task in chosen.tasks]
    peers = [peer for peer in chosen.peers if any(peer in peers_of(task, chosen) for task in tasks)]
    heads = ["", OURS, *peers, *(f"{OURS} / {peer}" for peer in peers)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for title, task, key, unit, divisor in ROWS:
        if task not in tasks:
            continue
        if task == "train200" and key:
            title = f"{title}, {chosen.train_steps} steps"
        rounds = {who: [values_of(result, key, divisor) for result in results.get((who, task), [])] for who in (OURS, *peers)}
        cells = [f"{title}, {unit}"]
        for who in (OURS, *peers):
            pooled = [value for values in rounds[who] for value in values]
            cells.append(spread(pooled) if pooled else "-")
        for peer in peers:
            pairs = zip(rounds[OURS], rounds[peer])
            ratios = [statistics.median(a) / statistics.median(b) for a, b in pairs if a and b]
            cells.append(spread(ratios, lambda ratio: f"{ratio:.2f}") if ratios else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def disagreements(results, chosen):
    """Signs that the sides did not do the same work."""
    found = []
    for task, name, share in CHECKS:
        for peer in peers_of(task, chosen):
            pair = [results.get((who, task), [{}])[-1].get(name) for who in (OURS, peer)]
            if None in pair:
                continue
            if name == "loss":
                # The first loss belongs to the same weights and batch; later ones drift with rounding.
                pair = [values[:1] for values in pair]
            pair = [values if isinstance(values, list) else [values] for values in pair]
            for ours, theirs in zip(*pair):
                if abs(ours - theirs) > share * max(abs(ours), abs(theirs)):
                    found.append(f"{task}: {name} is {ours:.6g} with {OURS} and {theirs:.6g} with {peer}")
    if any(run.get("objects") == 0 for run in results.get((OURS, "predict"), [])):
        found.append(f"predict: no objects, so nothing but the network was measured; remove {chosen.data} and raise --data-steps")
    return found


def compare_masks(chosen):
    """Lays the masks and flows of both sides over each other; prints how far they agree."""
    command = [*python_of("cellpose", "cellpose", "cellpose-compare", chosen), "--threads", str(chosen.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        stop("the masks could not be compared; see above")
    for line in json.loads(done.stdout)["agreement"]:
        cells = "{} and {} cells, ".format(*line["cells"]) if "cells" in line else ""
        print(f"{line['what']}: {cells}{100 * line['same']:.3f} % of the pixels agree")
        if line["same"] < AGREEMENT or len(set(line.get("cells", []))) > 1:
            print(f"NOT COMPARABLE: {line['what']} of {OURS} and cellpose differ")


def machine(chosen, pinned, results):
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    versions = {}
    for runs in results.values():
        versions.update(runs[-1].get("versions", {}))
    if versions.pop("checked", False):
        versions[OURS] += " (with debug assertions: not a release build)"
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    beside = "" if chosen.busy is None else f", beside busy processes of niceness {chosen.busy}"
    return f"{model}; {chosen.threads} threads, {pinned}{beside}; {chosen.rounds} rounds; {programs}"


def write_data(chosen, groups, binary):
    """What is missing in the folder for these groups."""
    for group in groups:
        ours, theirs = DATA[group]
        commands = []
        if ours and not (chosen.data / ours[1]).is_file():
            commands.append([str(binary), ours[0], str(chosen.data), "--steps", str(chosen.data_steps)])
        if theirs and "cellpose-masks" in chosen.tasks and not (chosen.data / theirs[1]).is_file():
            if "cellpose" not in chosen.peers:
                stop("the flows for cellpose-masks are made by the package; add it to --peers")
            commands.append(python_of("cellpose", group, theirs[0], chosen))
        for command in commands:
            say(f"writing data of {group} to {chosen.data}")
            if subprocess.run([*command, "--threads", str(chosen.threads)], stdout=subprocess.DEVNULL).returncode:
                stop("the data could not be written; see above")


def main():
    chosen = parse()
    if chosen.peers and not (Path(chosen.venv) / "bin" / "python").exists():
        stop(f"there is no environment in {chosen.venv}; run {HERE / 'setup.sh'} first")
    chosen.venv = Path(chosen.venv)
    binary, postprocess = build(chosen)
    pinned = pin(chosen.threads)
    groups = [group for group in GROUPS if any(task in chosen.tasks for task in GROUPS[group])]
    write_data(chosen, groups, binary)
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        say(f"other programs are running (load {os.getloadavg()[0]:.1f}); the figures will be pessimistic and scatter")
    out = chosen.out or FOLDER / time.strftime("results-%Y%m%d-%H%M%S.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    results = {}
    with open(out, "w") as file:
        for number_of in range(chosen.rounds):
            for task in (task for task in chosen.tasks if task != "postprocess"):
                order = [OURS, *peers_of(task, chosen)]
                # Nobody always runs first or last.
                turn = number_of % len(order)
                for who in order[turn:] + order[:turn]:
                    if task == "cold" and number_of == 0:
                        measure(who, task, chosen, binary)  # reads the program's files into the system's cache
                    with busy(chosen):
                        result = measure(who, task, chosen, binary)
                    results.setdefault((who, task), []).append(result)
                    file.write(json.dumps({"round": number_of, **result}) + "\n")
                    file.flush()
                    times = {name: f"{statistics.median(values):.0f} ms" for name, values in result["ms"].items()}
                    seen = ", ".join(f"{name} {value}" for name, value in times.items())
                    memory = f", {result['peak_mb']:.0f} MB" if result["peak_mb"] else ""
                    say(f"round {number_of + 1} of {chosen.rounds}: {who} {task}: {seen}{memory}")
    if results:
        print(machine(chosen, pinned, results))
        for group in groups:
            if any(key[1] in GROUPS[group] for key in results):
                print(f"\n{group}\n\n{table(results, chosen, group)}")
        print("\nMedian [smallest, largest]; a ratio below 1 is in favour of cellsparse.")
        for line in disagreements(results, chosen):
            print(f"NOT COMPARABLE: {line}")
    if ("cellpose", "cellpose-masks") in results:
        compare_masks(chosen)
    if "postprocess" in chosen.tasks:
        print("\npostprocess\n", flush=True)
        command = [str(chosen.venv / "bin" / "python"), str(HERE / "postprocess.py"), "--binary", str(postprocess)]
        command += ["--threads", str(chosen.threads), "--rounds", str(chosen.rounds)]
        if subprocess.run(command).returncode:
            stop("postprocess.py failed; see above")
    say(f"single results are in {out}")


if __name__ == "__main__":
    main()
