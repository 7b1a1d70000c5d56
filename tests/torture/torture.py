#!/usr/bin/env python3
"""Kills, silence and borders: what a program must survive that is ended at any moment.

    tests/torture/torture.py PROGRAM [kills=N] [seed=N] [only=NAME]

PROGRAM is the command line. Needs Python's standard library; `unshare` and `strace` (Linux) for the last two parts,
which say so where they are missing. Ends with status 1 at the first promise that is broken.
"""

import base64
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

import patience

SMALL = ["--batch-size", "1", "--patch-size", "64", "--seed", "1"]


class Broken(Exception):
    """A promise that was not kept."""


def main():
    program = os.path.abspath(sys.argv[1])
    keys = dict(word.split("=", 1) for word in sys.argv[2:])
    kills, chance = int(keys.get("kills", 200)), random.Random(int(keys.get("seed", 0)))
    parts = [trainings, resumed, predictions, server, signals, crowd, gone, network, writes]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        run(program, "demo", "--algorithm", "elephant", "--steps", "1", "--out", f"{folder}/demo", "--json")
        print(f"images drawn in {time.time() - begun:.0f} s", flush=True)
        for part in parts:
            if keys.get("only", part.__name__) != part.__name__:
                continue
            begun = time.time()
            seen = part(program, folder, kills, chance)
            print(f"{part.__name__:<12} {seen} ({time.time() - begun:.0f} s)", flush=True)


def run(program, *arguments, status=0, **more):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, **more)
    if done.returncode != status:
        raise Broken(f"{' '.join(arguments)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def killed(program, arguments, seconds):
    """Begins a command, kills it after some seconds, and says whether it was still at work."""
    child = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        child.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
        return True


def train(folder, model, *more):
    data = [f"{folder}/demo/images/annotated_1.png", f"{folder}/demo/sparse/annotated_1.png"]
    algorithm = ["--algorithm", "elephant", "--label-encoding", "wire"]
    return ["train", *algorithm, "--images", data[0], "--labels", data[1], "--model", model, *SMALL, *more]


def predict(folder, model, out, images="demo/images"):
    return ["predict", "--model", model, "--images", f"{folder}/{images}", "--out", out]


def usable(program, folder, model):
    """A model file that exists is whole: everything in it is read, checked and used."""
    if os.path.exists(model):
        run(program, *predict(folder, model, f"{folder}/used", "demo/images/unseen_1.png"))


def leftovers(folder, wanted):
    odd = sorted(set(os.listdir(folder)) - set(wanted))
    if odd:
        raise Broken(f"left behind in {folder}: {odd}")


def trainings(program, folder, kills, chance):
    """A new training that is killed leaves no model or a whole one."""
    place = f"{folder}/new"
    os.mkdir(place)
    model, hit, there = f"{place}/m.safetensors", 0, 0
    for _ in range(kills // 2):
        hit += killed(program, train(folder, model, "--steps", "100000"), chance.uniform(0.02, 2.0))
        there += os.path.exists(model)
        usable(program, folder, model)
        if os.path.exists(model):
            os.remove(model)
    run(program, *train(folder, model, "--steps", "2"))
    leftovers(place, ["m.safetensors"])
    return f"{hit} killed, {there} of them had a model, all of these whole; nothing left behind"


def resumed(program, folder, kills, chance):
    """A training that goes on from a model and is killed leaves the old model or a newer one."""
    place = f"{folder}/old"
    os.mkdir(place)
    model = f"{place}/m.safetensors"
    run(program, *train(folder, model, "--steps", "2"))
    steps, hit = 2, 0
    for _ in range(kills - kills // 2):
        hit += killed(program, train(folder, model, "--steps", "100000", "--resume"), chance.uniform(0.02, 2.0))
        usable(program, folder, model)
        now = json.loads(run(program, "info", model, "--json"))["steps"]
        if now < steps:
            raise Broken(f"the model went back from {steps} to {now} steps")
        steps = now
    run(program, *train(folder, model, "--steps", "1", "--resume"))
    leftovers(place, ["m.safetensors"])
    return f"{hit} killed, steps only grew, to {steps}; nothing left behind"


def whole_png(path):
    with open(path, "rb") as file:
        data = file.read()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Broken(f"{path} is no PNG")
    position, pixels = 8, b""
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] != zlib.crc32(kind + body):
            raise Broken(f"{path} is damaged")
        pixels += body if kind == b"IDAT" else b""
        position += 12 + length
    zlib.decompress(pixels)


def predictions(program, folder, kills, chance):
    """A prediction that is killed leaves whole files or none, and the next one clears up."""
    place, many = f"{folder}/results", f"{folder}/many"
    os.mkdir(many)
    for number in range(40):
        shutil.copy(f"{folder}/demo/images/unseen_1.png", f"{many}/field_{number}.png")
    model, hit, files = f"{folder}/demo/model.safetensors", 0, 0
    for _ in range(kills // 4):
        hit += killed(program, predict(folder, model, place, "many"), chance.uniform(0.05, 3.0))
        for name in os.listdir(place) if os.path.isdir(place) else []:
            if name.endswith(".png"):
                files += 1
                whole_png(f"{place}/{name}")
    run(program, *predict(folder, model, place, "many"))
    leftovers(place, [f"field_{number}.png" for number in range(40)])
    return f"{hit} killed, {files} label files, all whole; nothing left behind"


def begin_server(program, models, *more):
    child = subprocess.Popen(
        [program, "serve", "--port", "0", "--model-dir", models, *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for line in child.stdout:
        if "listening on " in line:
            return child, line.split("listening on ")[1].split()[0].rstrip("/")
    raise Broken("the server did not begin to listen")


def post(address, fields, seconds=None):
    request = urllib.request.Request(
        f"{address}/elephant/", json.dumps(fields).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


def done_steps(address):
    with urllib.request.urlopen(f"{address}/models/elephant/m") as answer:
        return json.load(answer)["model"]["steps"]


def server(program, folder, kills, chance):
    """A server that is killed in a training goes on with a whole model, at least that of the last finished request."""
    models, rounds = f"{folder}/models", max(kills // 10, 1)
    image, labels = drawn(folder)
    fields = {"modelname": "m", "b64img": image, "b64lbl": labels, "train": True, "trainpatch": 64, "batchsize": 1}
    steps = 0
    for _ in range(rounds):
        child, address = begin_server(program, models)
        post(address, {**fields, "steps": 2})
        finished = done_steps(address)
        if finished < steps + 2:
            raise Broken(f"{finished} steps after a request for 2 on top of {steps}")
        try:
            post(address, {**fields, "steps": 100000}, seconds=chance.uniform(0.05, 1.5))
        except (TimeoutError, urllib.error.URLError):
            pass
        child.kill()
        child.wait()
        child, address = begin_server(program, models)
        steps = done_steps(address)
        if steps < finished:
            raise Broken(f"{steps} steps after a kill, {finished} had been answered")
        post(address, {"modelname": "m", "b64img": image, "eval": True})
        child.kill()
        child.wait()
    return f"{rounds} killed in a training, no answered step lost, {steps} steps in the end"


def at_place(program):
    """Begins a server and gives the address as host and port."""

    def begin(models, *more):
        child, address = begin_server(program, models, *more)
        # Nobody reads what it says further.
        threading.Thread(target=child.stdout.read, daemon=True).start()
        host, port = address.split("//")[1].split(":")
        return child, (host, int(port))

    return begin


def drawn(folder):
    """Image and labels of a request."""
    return [
        base64.b64encode(open(f"{folder}/demo/{kind}/annotated_1.png", "rb").read()).decode()
        for kind in ("images", "sparse")
    ]


def crowd(program, folder, _kills, _chance):
    """Slow clients keep nobody from asking."""
    return patience.crowd(at_place(program), folder)


def gone(program, folder, kills, chance):
    """A client that has gone holds no place."""
    image, labels = drawn(folder)
    fields = {"modelname": "m", "b64img": image, "b64lbl": labels}
    return patience.gone(at_place(program), folder, fields, max(kills // 10, 1), chance)


def signals(program, folder, kills, chance):
    """A program that is asked to end ends soon."""
    many = f"{folder}/fields"
    os.makedirs(many, exist_ok=True)
    for number in range(40):
        shutil.copy(f"{folder}/demo/images/unseen_1.png", f"{many}/field_{number}.png")
    commands = [
        ("a training", train(folder, f"{folder}/ended.safetensors", "--steps", "100000")),
        ("a prediction", predict(folder, f"{folder}/demo/model.safetensors", f"{folder}/ended", "fields")),
    ]
    return patience.signals(program, commands, at_place(program), folder, max(kills // 10, 1), chance)


def network(program, folder, _kills, _chance):
    """Training and prediction need no network, not even the loopback."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        return "not run: unshare may not make a network of its own here"
    model = f"{folder}/alone.safetensors"
    for arguments in (train(folder, model, "--steps", "2"), predict(folder, model, f"{folder}/alone")):
        done = subprocess.run([*alone, program, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"without a network: {done.stderr[-2000:]}")
    return "trained and segmented without any network"


def writes(program, folder, _kills, _chance):
    """Nothing is written outside the paths that were given, and no socket is opened."""
    if shutil.which("strace") is None:
        return "not run: strace is missing"
    log, place = f"{folder}/calls", f"{folder}/given"
    os.mkdir(place)
    model, home = f"{place}/m.safetensors", f"{folder}/home"
    os.mkdir(home)
    watched = ["strace", "-f", "-qq", "-e", "trace=open,openat,creat,mkdir,mkdirat,rename,renameat2,unlink,socket", "-o", log]
    count = 0
    for arguments in (train(folder, model, "--steps", "2"), predict(folder, model, f"{place}/out")):
        done = subprocess.run([*watched, program, *arguments], capture_output=True, text=True, env={"HOME": home}, cwd=place)
        if done.returncode != 0:
            return f"not run: strace ended with {done.stderr.strip()[-200:]}"
        for line in open(log):
            writing = any(word in line for word in ("O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "rename", "unlink"))
            if "socket(" in line:
                raise Broken(f"a socket: {line.strip()}")
            if writing and " = -1 " not in line and "/dev/null" not in line:
                count += 1
                if place not in line:
                    raise Broken(f"written elsewhere: {line.strip()}")
    if os.listdir(home):
        raise Broken(f"in the home folder: {os.listdir(home)}")
    return f"{count} files and folders made, renamed or removed, all in the paths given; no socket"


if __name__ == "__main__":
    try:
        main()
    except Broken as broken:
        sys.exit(f"broken: {broken}")
