"""The server, and its page as a person uses it."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.request

from webdriver import free_port

CONTROL, SHIFT, ENTER, ESCAPE, TAB = "\ue009", "\ue008", "\ue007", "\ue00c", "\ue004"
END, LEFT, DOWN, PAGE_UP = "\ue010", "\ue012", "\ue015", "\ue00e"

# The part of the image that is shown, as soon as the page knows its size: it hears of another one a frame later.
VIEW = """
const [stage, canvas] = [document.getElementById('stage'), document.getElementById('canvas')];
const sized = (side) => canvas[side[0]] === Math.round(stage[side[1]] * devicePixelRatio);
return sized(['width', 'clientWidth']) && sized(['height', 'clientHeight']) && stage.dataset.view;
"""


class Server:
    """The server, on a port that stays the same when it is started again."""

    def __init__(self, program, out, *more):
        self.program, self.out, self.port = program, out, free_port()
        self.more = more
        out.mkdir(exist_ok=True)
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [self.program, "serve", "--port", str(self.port), "--model-dir", str(self.out / "models"), *self.more]
        log = (self.out / "server.log").open("a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line

    def used(self):
        """Seconds of processor time so far, and megabytes of memory now."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


def post(address, body):
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


class Page:
    """The page, as a person uses it."""

    def __init__(self, browser):
        self.browser = browser

    def to_screen(self, points):
        """Positions of the image as positions in the window, which the page has taken the size of."""
        view = self.browser.wait(VIEW, 20, what="an image is shown")
        x0, y0, scale = map(float, view.split(","))
        left, top = self.browser.script(
            "const box = document.getElementById('canvas').getBoundingClientRect(); return [box.left, box.top]")
        return [(left + (x - x0) * scale, top + (y - y0) * scale) for x, y in points]

    def drag(self, points, held=None):
        self.browser.drag(self.to_screen(points), held=held)

    def hover(self, x, y):
        self.browser.hover(self.to_screen([(x, y)])[0])

    def colour(self, x, y):
        """Red, green and blue of the canvas where a point of the image is shown."""
        (x, y), = self.to_screen([(x, y)])
        return self.browser.script(
            "const [x, y] = arguments; const canvas = document.getElementById('canvas'); const box = canvas.getBoundingClientRect();"
            "return [...canvas.getContext('2d').getImageData(x - box.left, y - box.top, 1, 1).data].slice(0, 3)", x, y)

    def reload(self):
        """Loads the page again, as its user does; returns when the old one is gone."""
        self.browser.script("window.old = true; location.reload()")
        self.browser.wait("return document.readyState === 'complete' && !window.old", 20, what="the page is loaded again")

    def messages(self):
        return self.browser.script("return [...document.querySelectorAll('#messages span')].map((one) => one.textContent)")

    def counts(self):
        """Drawn cells, and pixels of drawn background, as the server told the page."""
        return self.browser.script("const s = document.getElementById('stage').dataset; return [+s.cells, +s.background]")

    def objects(self):
        return self.browser.script(
            "return [...document.querySelectorAll('#objects tbody tr')].map((r) => ({ id: +r.dataset.id, x: +r.dataset.x,"
            " y: +r.dataset.y, drawn: r.cells[2].textContent === 'drawn' }))")

    def download(self, form, folder):
        before = set(folder.iterdir())
        self.browser.key("d")
        self.browser.wait("return document.getElementById('d-download').open", 5)
        self.browser.click(f"[data-form={form}]")
        opened = "return document.getElementById('d-download').open"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # Until it is whole, a file has another name, which it may lose at any moment.
            new = [path for path in set(folder.iterdir()) - before if not path.name.startswith(".")]
            whole = not any(path.suffix in (".crdownload", ".part", ".tmp") for path in new)
            if new and whole and new[0].stat().st_size and not self.browser.script(opened):
                return new[0]
            time.sleep(0.1)
        found = sorted(path.name for path in set(folder.iterdir()) - before)
        raise AssertionError(f"{form} was not downloaded; new in the folder: {found}; messages: {self.messages()}; "
                             f"the dialog is {'open' if self.browser.script(opened) else 'closed'}")
