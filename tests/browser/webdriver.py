"""A browser driven by WebDriver over plain HTTP: only what the tests of the page need."""

import base64
import json
import socket
import subprocess
import time
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    """Chromium without a window, of 1280 x 800 pixels, that stores downloads in a folder."""

    def __init__(self, chromedriver, chromium, downloads, log):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([chromedriver, f"--port={port}"], stdout=log, stderr=log)
        options = {
            "binary": chromium,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,800", "--hide-scrollbars",
                     "--disable-dev-shm-usage", "--lang=en-GB"],
            "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        }
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        deadline = time.monotonic() + 60
        while True:
            try:
                made = self.call("POST", "/session", {"capabilities": capabilities})
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.session = f"/session/{made['sessionId']}"
        size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", size)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message'][:2000]}") from None

    def do(self, path, body=None):
        return self.call("POST", self.session + path, body or {})

    def cdp(self, command, params):
        return self.do("/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, url):
        self.do("/url", {"url": url})

    def script(self, text, *args):
        return self.do("/execute/sync", {"script": text, "args": list(args)})

    def find(self, selector):
        return self.do("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.do(f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.do(f"/element/{self.find(selector)}/value", {"text": text})

    def clear(self, selector):
        self.do(f"/element/{self.find(selector)}/clear")

    def key(self, *keys):
        """Presses keys together: the last one while the others are held."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.do("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, points, milliseconds=8):
        """Moves the mouse to the first point, presses, goes along the others, and lets go."""
        move = lambda point, duration: {
            "type": "pointerMove", "duration": duration, "x": round(point[0]), "y": round(point[1]), "origin": "viewport",
        }
        actions = [move(points[0], 0), {"type": "pointerDown", "button": 0}]
        actions += [move(point, milliseconds) for point in points[1:]]
        actions += [{"type": "pointerUp", "button": 0}]
        self.mouse(actions)

    def click_at(self, point, button=0):
        """Presses a button of the mouse at a point."""
        move = {"type": "pointerMove", "duration": 0, "x": round(point[0]), "y": round(point[1]), "origin": "viewport"}
        self.mouse([move, {"type": "pointerDown", "button": button}, {"type": "pointerUp", "button": button}])

    def hover(self, point):
        self.mouse([{"type": "pointerMove", "duration": 0, "x": round(point[0]), "y": round(point[1]), "origin": "viewport"}])

    def mouse(self, actions):
        source = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self.do("/actions", {"actions": [source]})

    def wait(self, script, seconds, *args, what=""):
        """The value of a script as soon as it is true."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.script(script, *args)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"after {seconds} s: {what or script}")
            time.sleep(0.05)

    def screenshot(self, path, quality=None):
        """A picture of the page, as JPEG when a quality is given, else as PNG."""
        params = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        path.write_bytes(base64.b64decode(self.cdp("Page.captureScreenshot", params)["data"]))

    def complaints(self):
        """What the page's scripts have complained about."""
        entries = self.do("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(20)
