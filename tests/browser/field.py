"""A drawn microscope field of nuclei with known outlines, and grey PNG files, with Python's own library alone."""

import math
import random
import struct
import zlib


class Nucleus:
    """A roundish shape: a radius for every direction."""

    def __init__(self, chance, size):
        self.x, self.y = chance.uniform(2, size - 2), chance.uniform(2, size - 2)
        self.radius = chance.uniform(9, 16)
        self.long, self.turn = chance.uniform(1.0, 1.45), chance.uniform(0, math.pi)
        self.waves = [(n, chance.uniform(0, 0.35 / n ** 1.6), chance.uniform(0, math.tau)) for n in (2, 3, 4, 5)]
        self.light = chance.choice([chance.uniform(35, 70), chance.uniform(70, 170), chance.uniform(70, 150)])

    def reach(self, angle):
        a = angle - self.turn
        ellipse = self.radius / math.hypot(math.cos(a) / self.long, math.sin(a) * self.long)
        return ellipse * (1 + sum(w * math.cos(n * angle + p) for n, w, p in self.waves) / 2)

    def outline(self, count=40, wider=0.0):
        angles = [math.tau * n / count for n in range(count)]
        return [(self.x + (self.reach(a) + wider) * math.cos(a), self.y + (self.reach(a) + wider) * math.sin(a)) for a in angles]

    def furthest(self):
        return max(math.hypot(x - self.x, y - self.y) for x, y in self.outline())


def apart(one, other):
    """Pixels between two nuclei along the line through their middles."""
    angle = math.atan2(other.y - one.y, other.x - one.x)
    distance = math.hypot(one.x - other.x, one.y - other.y)
    return distance - max(one.reach(angle + d) for d in (-0.3, 0, 0.3)) - max(other.reach(angle + math.pi + d) for d in (-0.3, 0, 0.3))


def draw(size=512, wanted=150, seed=7):
    """`(image, truth, nuclei)`: rows of 8-bit numbers, rows of ids (0 is background), and the nuclei by id - 1."""
    chance = random.Random(seed)
    nuclei = []
    for _ in range(40 * wanted):
        one = Nucleus(chance, size)
        gap = chance.choice([0.0, 0.5, 1.5, 3.0])
        if all(apart(one, other) > gap for other in nuclei):
            nuclei.append(one)
        if len(nuclei) == wanted:
            break
    light = [[14 + 10 * math.sin(x / 190 + 1) * math.cos(y / 160) for x in range(size)] for y in range(size)]
    truth = [[0] * size for _ in range(size)]
    for number, one in enumerate(nuclei, 1):
        reach = one.furthest() + 6
        grains = [(chance.uniform(0, math.tau), chance.uniform(0.15, 0.5), chance.uniform(0, math.tau)) for _ in range(4)]
        for y in range(max(0, int(one.y - reach)), min(size, int(one.y + reach) + 1)):
            for x in range(max(0, int(one.x - reach)), min(size, int(one.x + reach) + 1)):
                dx, dy = x + 0.5 - one.x, y + 0.5 - one.y
                depth = one.reach(math.atan2(dy, dx)) - math.hypot(dx, dy)
                if depth > 0:
                    truth[y][x] = number
                grain = sum(math.sin(f * (dx * math.cos(d) + dy * math.sin(d)) + p) for d, f, p in grains) / 4
                light[y][x] += one.light * (1 + 0.35 * grain) / (1 + math.exp(-depth / 0.9))
    # Dust: as large as a small nucleus, bright and out of focus, and none of what is looked for.
    for _ in range(wanted // 10):
        x0, y0, turn = chance.uniform(10, size - 10), chance.uniform(10, size - 10), chance.uniform(0, math.pi)
        if truth[int(y0)][int(x0)]:
            continue
        for y in range(max(0, int(y0 - 16)), min(size, int(y0 + 17))):
            for x in range(max(0, int(x0 - 16)), min(size, int(x0 + 17))):
                along = (x - x0) * math.cos(turn) + (y - y0) * math.sin(turn)
                across = (y - y0) * math.cos(turn) - (x - x0) * math.sin(turn)
                light[y][x] += 95 * math.exp(-(along / 6) ** 2 / 2 - (across / 3.2) ** 2 / 2)
    image = [[min(255, max(0, round(v + chance.gauss(0, 2 + 0.5 * math.sqrt(max(v, 0)))))) for v in row] for row in light]
    return image, truth, nuclei


def write_png(path, rows, depth):
    """Rows of whole numbers as a grey PNG of 8 or 16 bit."""
    kind = ">%dH" if depth == 16 else ">%dB"
    data = b"".join(b"\0" + struct.pack(kind % len(row), *row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), depth, 0, 0, 0, 0)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def read_png(path):
    """The rows of a grey PNG of 8 or 16 bit."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "no PNG"
    at, packed, head = 8, b"", None
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        name, body = data[at + 4:at + 8], data[at + 8:at + 8 + length]
        at += length + 12
        if name == b"IHDR":
            head = struct.unpack(">IIBBBBB", body)
        elif name == b"IDAT":
            packed += body
    width, height, depth, colour = head[:4]
    assert colour == 0 and depth in (8, 16) and head[6] == 0, head
    step = depth // 8
    raw, line, before, rows = zlib.decompress(packed), width * step, bytearray(width * step), []
    for row in range(height):
        start = row * (line + 1)
        kind, values = raw[start], bytearray(raw[start + 1:start + 1 + line])
        for i in range(line):
            a = values[i - step] if i >= step else 0
            b, c = before[i], before[i - step] if i >= step else 0
            if kind == 1:
                values[i] = (values[i] + a) & 255
            elif kind == 2:
                values[i] = (values[i] + b) & 255
            elif kind == 3:
                values[i] = (values[i] + (a + b) // 2) & 255
            elif kind == 4:
                p = a + b - c
                near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
                values[i] = (values[i] + near) & 255
        before = values
        rows.append(list(struct.unpack((">%dH" if step == 2 else ">%dB") % width, bytes(values))))
    return rows


def write_tiff(path, planes):
    """Channels, each rows of 16-bit numbers, as a TIFF with all of them in each pixel."""
    rows, columns, channels = len(planes[0]), len(planes[0][0]), len(planes)
    data = b"".join(struct.pack("<H", plane[y][x]) for y in range(rows) for x in range(columns) for plane in planes)
    short, long = 3, 4
    bits = struct.pack("<%dH" % channels, *[16] * channels)
    # Unspecified further samples beside the first one.
    more = struct.pack("<%dH" % (channels - 1), *[0] * (channels - 1))
    entries = [
        (256, long, 1, columns), (257, long, 1, rows), (258, short, channels, bits), (259, short, 1, 1), (262, short, 1, 1),
        (273, long, 1, None), (277, short, 1, channels), (278, long, 1, rows), (279, long, 1, len(data)), (284, short, 1, 1),
    ] + ([(338, short, channels - 1, more)] if more else [])
    after = 8 + 2 + 12 * len(entries) + 4
    directory, behind = b"", b""
    start = after + sum(len(value) for _, _, _, value in entries if isinstance(value, bytes) and len(value) > 4)
    for tag, kind, count, value in entries:
        if tag == 273:
            value = start
        if isinstance(value, bytes) and len(value) > 4:
            field = struct.pack("<I", after + len(behind))
            behind += value
        else:
            field = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack("<I", value)
        directory += struct.pack("<HHI", tag, kind, count) + field
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + directory + struct.pack("<I", 0)
    path.write_bytes(head + behind + data)
