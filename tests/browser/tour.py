"""A tour of the page: draw, learn, correct, download; and nothing is lost when the server is killed."""

import json
import math
import pathlib
import subprocess
import time
import urllib.request

import field
from page import CONTROL, ENTER, ESCAPE, Page, post


class Tour:
    """Everything that is done on the page, in order."""

    def __init__(self, server, browser, out, given):
        self.server, self.browser, self.out = server, browser, out
        self.seconds = float(given.get("seconds", 15))
        self.pictures = pathlib.Path(given["pictures"]) if "pictures" in given else None
        self.rounds = int(given.get("rounds", 4))
        self.algorithm = given.get("algorithm", "stardist")
        self.page = Page(browser)

    def shot(self, name, kept=False):
        self.browser.screenshot(self.out / f"{name}.png")
        if kept and self.pictures:
            self.browser.picture(self.pictures / f"app-{name}.jpg", 82)

    def run(self, program, truth, nuclei, size):
        self.begin()
        self.draw(truth, nuclei, size)
        self.click(nuclei)
        self.survive()
        self.learn()
        self.correct(truth, size)
        self.results(program, size)
        self.open_again()

    def begin(self):
        browser = self.browser
        browser.open(f"{self.server.address}/app")
        browser.wait("return document.getElementById('d-project').open", 20)
        self.shot("0-projects")
        browser.clear("#project-name")
        browser.type("#project-name", "Nuclei")
        browser.click("#new-project button")
        browser.wait("return !document.getElementById('folder').hidden", 10)
        self.shot("1-empty")
        browser.choose("#files", self.out / "second.png")
        browser.wait("return document.querySelectorAll('#images li').length === 1", 20, what="the chosen file is added")
        browser.click("#folder")
        browser.click("#folder-images button")
        browser.wait("return document.querySelectorAll('#images li').length === 2", 20, what="the file of the folder is added")
        browser.wait("return document.querySelector('#images [aria-current] b')?.textContent === 'field.png'", 10)
        browser.wait("return document.getElementById('stage').dataset.version !== undefined", 10)
        browser.script("const a = document.getElementById('algorithm'); a.value = arguments[0];"
                       "a.dispatchEvent(new Event('change'))", self.algorithm)

    def draw(self, truth, nuclei, size):
        drawn = chosen_nuclei(nuclei, size)
        for number, one in enumerate(drawn, 1):
            points = one.outline()
            self.page.drag([*points, points[0]])
            self.browser.wait("return document.getElementById('stage').dataset.cells == arguments[0]", 10, number)
        # A step too many is taken back.
        self.page.drag([(5, 5), (30, 5), (30, 30), (5, 30)])
        self.browser.wait("return document.getElementById('stage').dataset.cells == 7", 10)
        self.browser.key(CONTROL, "z")
        self.browser.wait("return document.getElementById('stage').dataset.cells == 6", 10)
        self.browser.key("g")
        self.browser.key("[")
        self.browser.key("[")
        self.browser.key("[")
        background = 0
        for points in background_strokes(truth, drawn, size):
            self.page.drag(points)
            self.browser.wait("return document.getElementById('stage').dataset.background > arguments[0]", 10, background)
            background = self.page.counts()[1]
        print(f"drawn: {len(drawn)} nuclei, {background} pixels of background")
        self.shot("2-drawn", kept=True)

    def click(self, nuclei):
        """Outlines by click: points in and beside an object, a box around one, accepted, dropped, undone."""
        browser, page = self.browser, self.page
        told = lambda name: browser.script("return +(document.getElementById('stage').dataset[arguments[0]] || 0)", name)
        hint = lambda: browser.script("return document.getElementById('next-step').textContent")
        settled = "const text = document.getElementById('next-step').textContent; return /^(Score|Nothing)/.test(text) && text"
        cells = page.counts()[0]
        browser.key("c")
        browser.wait("return document.getElementById('stage').dataset.encoded == 1", 30, what="the image is looked at")
        # Of random weights, some clicks find nothing.
        for one in nuclei:
            browser.click_at(page.to_screen([(one.x, one.y)])[0])
            browser.wait(settled, 30, what="an answer to a click")
            if told("outlined"):
                break
            browser.key(ESCAPE)
        first = told("outlined")
        assert first and told("encoded") == 1 and hint().startswith("Score "), (first, hint())
        aside = (one.x + 40, one.y + 5) if one.x < 400 else (one.x - 40, one.y + 5)
        browser.click_at(page.to_screen([aside])[0], button=2)
        browser.wait("return document.getElementById('stage').dataset.outlined != arguments[0]", 30, first, what="another outline")
        self.shot("2-click")
        browser.key(ESCAPE)
        browser.wait("return document.getElementById('outlined').hidden", 10, what="the outline is dropped")
        assert not told("outlined") and page.counts()[0] == cells
        # A box; of those around nuclei, one in which the network finds something that is not drawn yet.
        for one in nuclei:
            page.drag([(one.x - 30, one.y - 30), (one.x, one.y), (one.x + 30, one.y + 30)])
            browser.wait(settled, 30, what="an answer to a box")
            if told("outlined"):
                break
            browser.key(ESCAPE)
        browser.key(ENTER)
        browser.wait("return document.getElementById('stage').dataset.cells == arguments[0]", 10, cells + 1, what="it is a cell")
        assert browser.script("return document.getElementById('outlined').hidden")
        browser.key(CONTROL, "z")
        browser.wait("return document.getElementById('stage').dataset.cells == arguments[0]", 10, cells)
        # Nearer, another part of the image is looked at, once.
        for _ in range(4):
            browser.key("+")
        x, y, scale = map(float, browser.script("return document.getElementById('stage').dataset.view").split(","))
        for place in (200, 260):
            browser.click_at(page.to_screen([(x + place / scale, y + place / scale)])[0])
            browser.wait("return document.getElementById('stage').dataset.encoded == 2", 30, what="a part is looked at")
            browser.wait(settled, 30)
        browser.key(ESCAPE)
        browser.key("0")
        browser.key("g")
        print(f"outlined by click: {first} pixels by a point; parts looked at: {told('encoded')}")

    def survive(self):
        before = self.page.download("drawn", self.out / "downloads").read_bytes()
        self.server.kill()
        self.browser.wait("return document.getElementById('status').textContent.includes('No connection')", 10,
                          what="the page says that the server is gone")
        self.server.start()
        self.browser.wait("return !document.getElementById('status').textContent.includes('No connection')", 15,
                          what="the page has found the server again")
        after = self.page.download("drawn", self.out / "downloads").read_bytes()
        assert before == after, "what was drawn is other than before the server was killed"
        print("killed: every stroke is there again")

    def learn(self):
        browser = self.browser
        browser.script(
            "window.seen = []; const stage = document.getElementById('stage');"
            "let last = stage.dataset.version; new MutationObserver(() => { if (stage.dataset.version === last) return;"
            "last = stage.dataset.version; window.seen.push([performance.now(), 0]); })"
            ".observe(stage, { attributes: true, attributeFilter: ['data-version'] });"
            "document.getElementById('learn').addEventListener('click', () => { window.begun ??= performance.now(); })")
        before = self.server.used()[0]
        browser.click("#learn")
        browser.wait("return window.seen.length > 0", 60, what="a first preview")
        processor = self.server.used()[0] - before
        first, _ = browser.script("return [window.seen[0][0] - window.begun, 0]")
        steps = browser.wait("return +document.getElementById('status').dataset.steps", 5)
        found = len(self.page.objects())
        print(f"first preview: {first / 1000:.2f} s after the start, {steps} steps, {found} objects; "
              f"{processor:.1f} s of processor time")
        self.shot("3-first")
        time.sleep(self.seconds)
        browser.wait("return window.seen.length > 1", 60, what="a second preview")
        seen = browser.script("return window.seen")
        gaps = [(b[0] - a[0]) / 1000 for a, b in zip(seen, seen[1:])]
        steps = browser.script("return +document.getElementById('status').dataset.steps")
        print(f"refreshed {len(gaps)} times, {max(gaps):.2f} s apart at most, {sum(gaps) / len(gaps):.2f} s on average; "
              f"{steps} steps after {self.seconds:.0f} s")
        self.first, self.gap = first / 1000, max(gaps)

    def correct(self, truth, size):
        browser = self.browser
        labels = field.read_png(self.page.download("png", self.out / "downloads"))
        best = overlap(labels, truth, size)
        found = [one for one in self.page.objects() if not one["drawn"]]
        at = lambda one: labels[int(one["y"])][int(one["x"])]
        quality = lambda one: best.get(at(one), (0.0, 0))[0]
        usable = sorted((one for one in found if at(one) and 20 < one["x"] < size - 20 and 20 < one["y"] < size - 20), key=quality)
        assert len(usable) > 20, f"{len(usable)} objects were found"
        wrong, right = usable[0], usable[-1]
        cells = self.page.counts()[0]
        browser.key("v")
        browser.hover(self.page.to_screen([(right["x"], right["y"])])[0])
        browser.key("a")
        browser.wait("return document.getElementById('stage').dataset.cells == arguments[0]", 10, cells + 1, what="accepted")
        background = self.page.counts()[1]
        browser.hover(self.page.to_screen([(wrong["x"], wrong["y"])])[0])
        # Only what is no nucleus is deleted; else it is accepted, as a person would.
        false = quality(wrong) < 0.4
        browser.key("x" if false else "a")
        if false:
            browser.wait("return document.getElementById('stage').dataset.background > arguments[0]", 10, background, what="deleted")
        else:
            browser.wait("return document.getElementById('stage').dataset.cells == arguments[0]", 10, cells + 2)
        print(f"corrected: accepted one of IoU {quality(right):.2f}, {'deleted' if false else 'accepted'} one of {quality(wrong):.2f}")
        version = browser.script("return document.getElementById('stage').dataset.version")
        browser.wait("return document.getElementById('stage').dataset.version !== arguments[0]", 30, version, what="a next round")
        middle = self.page.to_screen([(right["x"], right["y"])])[0]
        browser.drag([middle, middle])
        browser.wait("return !document.getElementById('actions').hidden", 10, what="the object is chosen")
        seen = browser.script("const row = document.querySelector('#objects [aria-selected=true]').getBoundingClientRect();"
                              "const box = document.querySelector('.scroll').getBoundingClientRect();"
                              "return row.top >= box.top && row.bottom <= box.bottom + 1")
        assert seen, "the table does not show the chosen object"
        self.shot("4-corrected", kept=True)

    def results(self, program, size):
        browser = self.browser
        browser.click("#learn")
        browser.wait("return document.getElementById('status').dataset.phase === 'off'", 20)
        browser.key("\ue00c")
        browser.key("n")
        browser.wait("return document.getElementById('stage').dataset.doubts !== '0'"
                     " || document.getElementById('messages').children.length", 30, what="suggestions, or that there are none")
        time.sleep(0.3)
        self.shot("5-doubt", kept=True)
        print(f"of two minds at {browser.script('return document.getElementById(arguments[0]).dataset.doubts', 'stage')} places")
        browser.key("0")
        if self.rounds:
            self.endure()
        kinds = {"tiff": b"II*\0", "rois": b"PK\x03\x04", "geojson": b"[", "csv": b"label,", "model": b""}
        # As it does in Chromium when the disk is nearly full.
        browser.script("Response.prototype.blob = () => Promise.reject(new TypeError('Failed to fetch'))")
        for form, start in kinds.items():
            data = self.page.download(form, self.out / "downloads").read_bytes()
            assert len(data) > 1000 and (data.startswith(start) or form in ("geojson", "tiff")), (form, data[:40])
        path = self.page.download("png", self.out / "downloads")
        (self.out / "found/field.png").write_bytes(path.read_bytes())
        rows = score(program, self.out / "found", self.out / "truth")
        half = rows[0.5]
        print(f"downloaded labels: AP {half['accuracy']:.3f} at IoU 0.5, {rows[0.75]['accuracy']:.3f} at 0.75 "
              f"({half['n_true']} nuclei, {half['n_pred']} objects)")
        assert half["accuracy"] > 0.6, half
        self.ap = half["accuracy"]

    def endure(self):
        """A hundred edits and twenty more rounds do not let the server grow."""
        browser = self.browser
        base = f"{self.server.address}/app/api/projects/Nuclei"
        before = self.server.used()[1]
        stroke = {"kind": "paint", "shape": {"shape": "stroke", "points": [[3, 3], [9, 9]], "radius": 2}, "ink": {"ink": "background"}}
        for number in range(100):
            post(f"{base}/images/2/edit", stroke if number % 2 == 0 else {"kind": "undo"})
        round_number = lambda: json.load(urllib.request.urlopen(f"{base}"))["status"]["round"]["number"]
        start = round_number()
        post(f"{base}/learn", {"on": True})
        deadline = time.monotonic() + 150
        while round_number() < start + self.rounds and time.monotonic() < deadline:
            time.sleep(0.3)
        post(f"{base}/learn", {"on": False})
        browser.wait("return document.getElementById('status').dataset.phase === 'off'", 30)
        after = self.server.used()[1]
        print(f"memory: {before:.0f} MB, and {after:.0f} MB after 100 more edits and {round_number() - start} more rounds")
        assert after < 1.5 * before + 100, (before, after)

    def open_again(self):
        browser = self.browser
        cells = self.page.counts()
        objects = len(self.page.objects())
        self.server.stop()
        self.server.more = ()
        self.server.start()
        browser.open("about:blank")
        browser.open(f"{self.server.address}/app/")
        browser.wait("return document.querySelectorAll('#projects button').length === 1", 20)
        browser.click("#projects button")
        browser.wait("return document.querySelectorAll('#objects tbody tr').length > 10", 30, what="the objects are there again")
        assert self.page.counts() == cells, (self.page.counts(), cells)
        again = len(self.page.objects())
        print(f"opened again: {cells[0]} drawn cells, {again} objects (before: {objects})")
        assert abs(again - objects) <= 2
        browser.key("c")
        browser.wait("return document.getElementById('d-sam').open", 10, what="where weights come from")
        text = browser.script("return document.getElementById('weights').textContent")
        links = browser.script("return document.querySelectorAll('#weights a').length")
        assert "mobile_sam.pt" in text and "--sam FILE" in text and links == 2, (text, links)
        self.shot("6-weights")
        browser.click("#d-sam button")
        browser.key("?")
        self.shot("6-help")


def chosen_nuclei(nuclei, size, wanted=6):
    """Whole nuclei of different sizes from all over the field."""
    inside = [one for one in nuclei if all(6 < v < size - 6 for point in one.outline() for v in point)]
    inside.sort(key=lambda one: one.radius)
    step = len(inside) / wanted
    return [inside[int((n + 0.5) * step)] for n in range(wanted)]


def background_strokes(truth, drawn, size):
    """Straight strokes that stay off all nuclei: one near each drawn one if there is room, and some elsewhere."""

    def clear(x, y, gap):
        around = [(x + dx, y + dy) for dx in (-gap, 0, gap) for dy in (-gap, 0, gap)]
        return all(4 < u < size - 4 and 4 < v < size - 4 and truth[int(v)][int(u)] == 0 for u, v in around)

    strokes = []
    for one in drawn:
        for turn in range(24):
            arc = [math.tau * (turn + n / 4) / 24 for n in range(17)]
            points = [(one.x + (one.reach(a) + 6) * math.cos(a), one.y + (one.reach(a) + 6) * math.sin(a)) for a in arc]
            if all(clear(x, y, 4) for x, y in points):
                strokes.append(points)
                break
    for y in range(20, size - 20, 7):
        for x in range(20, size - 60, 9):
            points = [(x + n, y + n / 5) for n in range(0, 34, 3)]
            far = all(abs(y - other[0][1]) > 90 or abs(x - other[0][0]) > 90 for other in strokes)
            if far and all(clear(u, v, 5) for u, v in points):
                strokes.append(points)
    return strokes[:12]


def overlap(labels, truth, size):
    """For every object of `labels`: the true id that it shares most with, and the intersection over union."""
    shared, areas, true_areas = {}, {}, {}
    for row, true_row in zip(labels, truth):
        for one, other in zip(row, true_row):
            areas[one] = areas.get(one, 0) + 1
            true_areas[other] = true_areas.get(other, 0) + 1
            shared[one, other] = shared.get((one, other), 0) + 1
    best = {}
    for (one, other), pixels in shared.items():
        if one and other:
            value = pixels / (areas[one] + true_areas[other] - pixels)
            best[one] = max(best.get(one, (0.0, 0)), (value, other))
    return best


def score(program, labels, truth):
    """What `cellsparse evaluate` says."""
    command = [program, "evaluate", "--pred", labels, "--truth", truth, "--thresholds", "0.5,0.75", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {row["thresh"]: row for row in found["thresholds"]}
