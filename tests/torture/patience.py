"""How long a program keeps others waiting: behind slow clients, after a signal, and after its client has gone."""

import base64
import http.client
import json
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib

SLOW = 600


def said(seconds):
    """Median and worst in milliseconds."""
    seconds = sorted(seconds)
    return f"{seconds[len(seconds) // 2] * 1e3:.0f} ms, {seconds[-1] * 1e3:.0f} ms at worst"


def png(height, width, pixel):
    """A grey PNG."""
    rows = b"".join(b"\0" + bytes(pixel(y, x) for x in range(width)) for y in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def health(place):
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(*place, timeout=30)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200
    return time.perf_counter() - begun


def slow_connection(place, number):
    """Says nothing, half a head, or the beginning of a body."""
    stream = socket.create_connection(place, timeout=30)
    host = f"{place[0]}:{place[1]}"
    stream.sendall(
        [
            b"",
            b"GET /health HTTP/1.1\r\nHo",
            f"POST /stardist/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n{{".encode(),
        ][number % 3]
    )
    return stream


def crowd(begin_server, folder):
    """`/health` alone, behind 600 connections that send nothing, half a head or half a body, and while more of them come."""
    child, place = begin_server(f"{folder}/crowd")
    alone = [health(place) for _ in range(200)]
    slow = [slow_connection(place, number) for number in range(SLOW)]
    behind = [health(place) for _ in range(200)]
    ended = threading.Event()

    def more():
        number = 0
        while not ended.is_set():
            old, slow[number % SLOW] = slow[number % SLOW], slow_connection(place, number)
            old.close()
            number += 1
            time.sleep(0.002)

    thread = threading.Thread(target=more)
    thread.start()
    while_more = [health(place) for _ in range(200)]
    ended.set()
    thread.join()
    [stream.close() for stream in slow]
    child.kill()
    child.wait()
    if sorted(behind)[100] > 0.05 or sorted(while_more)[100] > 0.05:
        raise AssertionError(f"/health: {said(behind)} behind {SLOW} connections, {said(while_more)} while more come")
    return (
        f"/health 200 times: alone {said(alone)}; behind {SLOW} slow connections {said(behind)}; "
        f"while 500 more a second come {said(while_more)}"
    )


def ended_after(child, sent):
    begun = time.perf_counter()
    child.send_signal(sent)
    child.wait(timeout=60)
    return time.perf_counter() - begun


def signals(program, commands, begin_server, folder, rounds, chance):
    """Time from a signal to the end of a program, at random moments."""
    seen = []
    for name, arguments in commands:
        for sent in (signal.SIGINT, signal.SIGTERM):
            delays = []
            for _ in range(rounds):
                child = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(chance.uniform(0.05, 2.5))
                if child.poll() is None:
                    delays.append(ended_after(child, sent))
            if delays:
                seen.append(f"{sent.name} to {name} {said(delays)} ({len(delays)})")
    delays = []
    for number in range(rounds):
        child, place = begin_server(f"{folder}/signals")
        health(place)
        delays.append(ended_after(child, [signal.SIGINT, signal.SIGTERM][number % 2]))
    seen.append(f"both to an idle server {said(delays)} ({rounds})")
    return "; ".join(seen)


def post(place, path, fields):
    connection = http.client.HTTPConnection(*place, timeout=300)
    connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text
    return text


def running(place, kind):
    """Pieces of work of a kind that have a place."""
    connection = http.client.HTTPConnection(*place, timeout=30)
    connection.request("GET", "/health")
    count = json.load(connection.getresponse())[kind]["running"]
    connection.close()
    return count


def freed_after(place, kind, path, fields, seconds):
    """Sends a request and goes away after some time: how long its place stays taken then. None when it had none by then."""
    connection = http.client.HTTPConnection(*place, timeout=300)
    connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    time.sleep(seconds)
    had = running(place, kind)
    begun = time.perf_counter()
    connection.close()
    while running(place, kind):
        if time.perf_counter() - begun > 60:
            raise AssertionError(f"{kind}: a place is still taken a minute after its client left")
        time.sleep(0.002)
    return time.perf_counter() - begun if had else None


def gone(begin_server, folder, fields, rounds, chance):
    """With one place for predictions and one for trainings: how long it stays taken when the client that had it has gone."""
    child, place = begin_server(f"{folder}/gone", "--predictions", "1", "--trainings", "1")
    row = [[chance.randrange(40) + (150 if (y // 20 + x // 20) % 2 else 0) for x in range(61)] for y in range(67)]
    large = base64.b64encode(png(2500, 2500, lambda y, x: row[y % 67][x % 61])).decode()
    train = {**fields, "train": True, "trainpatch": 64, "batchsize": 1}
    predict = {"modelname": fields["modelname"], "b64img": large, "eval": True}
    seen, late = [], []
    for algorithm in ("stardist", "cellpose", "elephant"):
        path = f"/{algorithm}/"
        post(place, path, {**train, "steps": 1})
        for kind, request in (("predictions", predict), ("trainings", {**train, "steps": 100000})):
            delays = [freed_after(place, kind, path, request, chance.uniform(0.2, 2.0)) for _ in range(rounds)]
            delays = [delay for delay in delays if delay is not None]
            if delays:
                seen.append(f"{kind} of {algorithm} {said(delays)} ({len(delays)})")
                late += [seen[-1]] if sorted(delays)[len(delays) // 2] > 1 else []
    child.kill()
    child.wait()
    if late:
        raise AssertionError(f"places stay taken: {late}")
    return "; ".join(seen)
