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

import tables
from sides import AVX2, GROUPS, OURS, PEERS, RIVAL_TASKS, TASKS, USUAL, can_be_kept_to_avx2, group_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target" / "peers"
# What writes the data of a group, and the last file that it leaves: with this crate, then with the package.
DATA = {
    "stardist": (("data", "model.onnx"), None),
    "cellpose": (("cellpose-data", "cellpose.onnx"), ("cellpose-data", "flows_2048.npy")),
    "elephant": (("elephant-data", "elephant.pth"), None),
    "postprocess": (None, None),
}
NICE = {"low": 19, "same": 0}
# Fraction of the pixels whose flows or masks must agree.
AGREEMENT = 0.999


class Failed(Exception):
    """A process gave no result."""


def say(text):
    print(f"run: {text}", file=sys.stderr, flush=True)


def stop(text):
    say(text)
    sys.exit(1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rivals", action="store_true",
        help="every configuration of every peer, one row each, and the ratios to the fastest of them",
    )
    parser.add_argument(
        "--tasks", help=f"comma-separated groups ({', '.join(GROUPS)}; all by default) or tasks: {', '.join(TASKS)}; "
        f"with --rivals by default {','.join(RIVAL_TASKS)}",
    )
    parser.add_argument("--peers", help=f"comma-separated: {', '.join(PEERS)}; by default {', '.join(USUAL[1:])}, with --rivals all")
    parser.add_argument("--ours", help=f"comma-separated: {', '.join(OURS)}; by default the first, with --rivals all")
    parser.add_argument("--avx2", action="store_true", help="keep everyone who can be to AVX2; leaves the others out")
    parser.add_argument(
        "--load", default="none", help="comma-separated: none; low, a busy process for each thread at the lowest "
        "priority beside the measured one; same, at its priority (default %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each runs everything once (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="compute threads for everyone (default %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="timed training steps in a run (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed predictions in a run (default %(default)s)")
    parser.add_argument("--train-steps", type=int, default=200, help="steps of train200 (default %(default)s)")
    parser.add_argument("--binary", type=Path, help="a built example `peer`; by default it is built with --release")
    parser.add_argument("--venv", type=Path, default=os.environ.get("PEERS_VENV", FOLDER / ".venv"))
    parser.add_argument("--data", type=Path, default=FOLDER / "data", help="made when it is absent")
    parser.add_argument("--data-steps", type=int, default=200, help="training steps of the model in the data (default %(default)s)")
    parser.add_argument("--out", type=Path, help="file for the single results, one JSON line each")
    chosen = parser.parse_args()
    defaults = {
        "tasks": RIVAL_TASKS if chosen.rivals else tuple(GROUPS),
        "peers": tuple(PEERS) if chosen.rivals else USUAL[1:],
        "ours": tuple(OURS) if chosen.rivals else USUAL[:1],
        "load": (),
    }
    for name, known in (("tasks", TASKS), ("peers", tuple(PEERS)), ("ours", tuple(OURS)), ("load", tuple(tables.LOADS))):
        text = getattr(chosen, name)
        wanted = list(defaults[name]) if text is None else [part for part in text.split(",") if part]
        if name == "tasks":
            wanted = [task for part in wanted for task in (GROUPS.get(part) if part not in TASKS else [part]) or [part]]
        unknown = [part for part in wanted if part not in known]
        if unknown or (name in ("tasks", "load") and not wanted):
            parser.error(f"--{name} {','.join(wanted)}: choose among {', '.join(known)}")
        setattr(chosen, name, list(dict.fromkeys(wanted)))
    if chosen.avx2:
        chosen.ours = [name for name in chosen.ours if can_be_kept_to_avx2(OURS[name])]
        chosen.peers = [name for name in chosen.peers if can_be_kept_to_avx2(PEERS[name])]
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
def busy(load, threads):
    """Processes that want all processors, as a browser or an indexer may. They belong to the session of this process, as
    the measured one does: Linux may heed priorities within a session only."""
    loops = []
    if load != "none":
        command = ["nice", "-n", str(NICE[load]), sys.executable, "-c", "while True: pass"]
        loops = [subprocess.Popen(command) for _ in range(threads)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def sides_of(task, chosen):
    return [side for name in chosen.ours for side in [OURS[name]] if task in side.tasks] + [
        side for name in chosen.peers for side in [PEERS[name]] if task in side.tasks
    ]


def measure(side, task, chosen, binary):
    """One process. Returns its line; for `cold` the time is from here to the line's arrival.

    Raises `Failed` with the last messages of a process that gives no result.
    """
    with tempfile.TemporaryFile("w+") as messages:
        start = time.perf_counter()
        process = subprocess.Popen(
            side.command(task, chosen, binary), stdout=subprocess.PIPE, stderr=messages, text=True,
            env=side.surroundings(chosen),
        )
        line = process.stdout.readline()
        arrived = 1e3 * (time.perf_counter() - start)
        process.stdout.read()
        code = process.wait()
        messages.seek(0)
        tail = "".join(messages.readlines()[-15:])
    if code or not line.startswith("{"):
        raise Failed(f"{side.name} {task} ended with status {code} and no result; its last messages:\n{tail}{line}")
    result = json.loads(line)
    if task == "cold":
        result["ms"]["cold"] = [arrived]
    return result


def compare_masks(chosen):
    """Lays the masks and flows of both sides over each other; prints how far they agree."""
    command = PEERS["cellpose"].command("cellpose-compare", chosen, None)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        stop("the masks could not be compared; see above")
    for line in json.loads(done.stdout)["agreement"]:
        cells = "{} and {} cells, ".format(*line["cells"]) if "cells" in line else ""
        print(f"{line['what']}: {cells}{100 * line['same']:.3f} % of the pixels agree")
        if line["same"] < AGREEMENT or len(set(line.get("cells", []))) > 1:
            print(f"NOT COMPARABLE: {line['what']} of cellsparse and cellpose differ")


def instruction_sets():
    """Those that matter here, of the first processor."""
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve")
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            flags = next((line.split(":", 1)[1].split() for line in info if line.startswith(("flags", "Features"))), [])
        return ", ".join(name for name in known if name in flags)
    return ""


def machine(chosen, pinned, results):
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    versions, arithmetic = {}, set()
    for (name, *_), runs in results.items():
        versions.update(runs[-1].get("versions", {}))
        arithmetic |= {runs[-1]["instructions"]} if "instructions" in runs[-1] else set()
    if versions.pop("checked", False):
        versions["cellsparse"] += " (with debug assertions: not a release build)"
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    kept = f", kept to AVX2 ({', '.join(f'{name}={value}' for name, value in AVX2.items())})" if chosen.avx2 else ""
    return (
        f"{model} ({instruction_sets()}); {chosen.threads} threads, {pinned}{kept}; {chosen.rounds} rounds; {programs}; "
        f"cellsparse with {', '.join(sorted(arithmetic)) or 'no figure'}"
    )


def write_data(chosen, groups, binary):
    """What is missing in the folder for these groups."""
    for group in groups:
        ours, theirs = DATA[group]
        commands = []
        if ours and not (chosen.data / ours[1]).is_file():
            numbers = ["--steps", str(chosen.data_steps), "--threads", str(chosen.threads)]
            commands.append([str(binary), ours[0], str(chosen.data), *numbers])
        if theirs and "cellpose-masks" in chosen.tasks and not (chosen.data / theirs[1]).is_file():
            if "cellpose" not in chosen.peers:
                stop("the flows for cellpose-masks are made by the package; add it to --peers")
            commands.append(PEERS["cellpose"].command(theirs[0], chosen, binary))
        for command in commands:
            say(f"writing data of {group} to {chosen.data}")
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                stop("the data could not be written; see above")


def measure_all(chosen, binary, file):
    """The results of all rounds, and who was left out and why: among rivals a peer that fails ends nothing."""
    results, left_out = {}, {}
    if shutil.which("g++") is None:
        left_out = {(name, task): "torch.compile needs g++" for name in PEERS if PEERS[name].compiled for task in TASKS}

    def attempt(side, task, load):
        try:
            with busy(load, chosen.threads):
                return measure(side, task, chosen, binary)
        except Failed as failure:
            if not chosen.rivals or side.ours:
                stop(str(failure))
            say(f"left out: {failure}")
            left_out[side.name, task] = str(failure).splitlines()[-1]
            return None

    for number_of in range(chosen.rounds):
        for task in (task for task in chosen.tasks if task != "postprocess"):
            order = sides_of(task, chosen)
            for side in order if number_of == 0 else []:
                if (side.name, task) not in left_out and (side.compiled or task == "cold"):
                    say(f"{side.name} {task}: a run that does not count")
                    attempt(side, task, "none")  # Fills the caches of the compiler and of the file system.
            # Nobody always runs first or last.
            turn = number_of * max(1, len(order) // chosen.rounds) % max(1, len(order))
            for side, load in ((side, load) for side in order[turn:] + order[:turn] for load in chosen.load):
                result = None if (side.name, task) in left_out else attempt(side, task, load)
                if result is None:
                    continue
                results.setdefault((side.name, task, load), []).append(result)
                file.write(json.dumps({"round": number_of, "side": side.name, "load": load, **result}) + "\n")
                file.flush()
                seen = ", ".join(f"{name} {statistics.median(values):.0f} ms" for name, values in result["ms"].items())
                memory = f", {result['peak_mb']:.0f} MB" if result["peak_mb"] else ""
                beside = "" if load == "none" else f", load {load}"
                say(f"round {number_of + 1} of {chosen.rounds}: {side.name} {task}{beside}: {seen}{memory}")
    asked = [(side.name, task) for task in chosen.tasks if task != "postprocess" for side in sides_of(task, chosen)]
    return results, {pair: left_out[pair] for pair in asked if pair in left_out}


def report(chosen, pinned, results, left_out):
    print(machine(chosen, pinned, results))
    for load in chosen.load:
        if len(chosen.load) > 1 or load != "none":
            print(f"\n## Beside {tables.LOADS[load]}")
        if chosen.rivals:
            print(f"\n{tables.against_rivals(results, chosen, load)}")
            continue
        for group in GROUPS:
            if any(task in GROUPS[group] for _, task, _ in results):
                print(f"\n{group}\n\n{tables.beside_the_usual(results, chosen, group, load)}")
    if "none" in chosen.load and len(chosen.load) > 1:
        print(f"\n## Under load\n\n{tables.under_load(results, chosen)}")
    print("\nMedian [smallest, largest]; a ratio below 1 is in favour of cellsparse.")
    for line in tables.disagreements(results, chosen):
        print(f"NOT COMPARABLE: {line}")
    for (name, task), reason in left_out.items():
        print(f"LEFT OUT: {name} in {task}: {reason}")


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
    with open(out, "w") as file:
        results, left_out = measure_all(chosen, binary, file)
    if results:
        report(chosen, pinned, results, left_out)
    if ("cellpose", "cellpose-masks", "none") in results:
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
