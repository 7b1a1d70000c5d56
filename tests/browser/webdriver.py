"""Browsers without a window, driven by WebDriver: only what the tests of the page need.

Chromium is asked through chromedriver, over HTTP. Firefox takes the same commands itself (Marionette, which geckodriver translates to), so
that it needs no driver.
"""

import base64
import json
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SIZE = (1280, 800)  # of the page, in pixels


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    """What both can do. Each has `send(command, params)`, by the names of Marionette, and what WebDriver has no command for."""

    def open(self, url):
        self.send("Navigate", {"url": url})

    def script(self, text, *args):
        return self.send("ExecuteScript", {"script": text, "args": list(args)})

    def find(self, selector):
        return self.send("FindElement", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        for last in (False, False, True):
            try:
                return self.send("ElementClick", {"id": self.find(selector)})
            except RuntimeError as error:
                # A list may have been made anew since it was looked for.
                if last or "stale" not in str(error):
                    raise

    def type(self, selector, text):
        self.send("ElementSendKeys", {"id": self.find(selector), "text": text})

    def choose(self, selector, *paths):
        """Chooses files in an input for several of them, as its dialog would."""
        self.type(selector, "\n".join(str(path) for path in paths))

    def clear(self, selector):
        self.send("ElementClear", {"id": self.find(selector)})

    def name(self, selector):
        """What assistive technology calls an element."""
        return self.send("GetComputedLabel", {"id": self.find(selector)})

    def accept(self):
        """Says yes to a question of the browser."""
        self.send("AcceptAlert", {})

    def key(self, *keys):
        """Presses keys together: the last one while the others are held."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.act({"type": "key", "id": "keys", "actions": actions})

    pace = 8  # milliseconds from one point of a stroke to the next

    def drag(self, points, held=None):
        """Moves the mouse to the first point, presses, goes along the others, and lets go; all while a key is held, if one is given."""
        actions = [move(points[0]), {"type": "pointerDown", "button": 0}]
        actions += [move(point, self.pace) for point in points[1:]]
        self.mouse([*actions, {"type": "pointerUp", "button": 0}], held)

    def click_at(self, point, button=0):
        """Presses a button of the mouse at a point."""
        self.mouse([move(point), {"type": "pointerDown", "button": button}, {"type": "pointerUp", "button": button}])

    def hover(self, point):
        self.mouse([move(point)])

    def mouse(self, actions, held=None):
        if held:
            self.act({"type": "key", "id": "keys", "actions": [{"type": "keyDown", "value": held}]})
        self.act({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions})
        if held:
            self.act({"type": "key", "id": "keys", "actions": [{"type": "keyUp", "value": held}]})

    def act(self, source):
        self.send("PerformActions", {"actions": [source]})

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

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send("TakeScreenshot", {"full": False})))


def move(point, milliseconds=0):
    return {"type": "pointerMove", "duration": milliseconds, "x": round(point[0]), "y": round(point[1]), "origin": "viewport"}


class Chromium(Browser):
    """Chromium or Chrome, through a chromedriver of its version."""

    label = "Chromium"
    paths = {
        "Navigate": "/url", "ExecuteScript": "/execute/sync", "FindElement": "/element", "PerformActions": "/actions",
        "ElementClick": "/element/{id}/click", "ElementSendKeys": "/element/{id}/value", "ElementClear": "/element/{id}/clear",
        "GetComputedLabel": "/element/{id}/computedlabel", "TakeScreenshot": "/screenshot", "AcceptAlert": "/alert/accept",
    }
    asked = ("GetComputedLabel", "TakeScreenshot")

    def __init__(self, program, driver, downloads, log):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=log, stderr=log)
        options = {
            "binary": program,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--lang=en-GB"],
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
        self.version = made["capabilities"]["browserVersion"]
        self.resize(*SIZE)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message'][:2000]}") from None

    def send(self, command, params):
        path = self.session + self.paths[command].format(**params)
        return self.call("GET", path) if command in self.asked else self.call("POST", path, params)

    def cdp(self, command, params):
        return self.call("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": params})

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", size)

    def drop(self, point, paths):
        """Drags files or folders from the desktop onto a point of the page and lets them go."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.cdp("Input.dispatchDragEvent", {"type": kind, "x": round(point[0]), "y": round(point[1]), "data": data})

    def picture(self, path, quality):
        """A picture of the page as JPEG, for documents."""
        data = self.cdp("Page.captureScreenshot", {"format": "jpeg", "quality": quality})["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self):
        """What the page's scripts have complained about."""
        entries = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(20)


class Firefox(Browser):
    """Firefox, by the protocol that every one has built in: `LENGTH:[0, number, command, parameters]` over a socket."""

    label = "Firefox"
    pace = 0  # it takes a frame for each anyway
    settings = {
        "marionette.port": 0,  # a free one, which it writes into its profile
        # The list of downloads would take the focus from the page.
        "browser.download.folderList": 2, "browser.download.alwaysOpenPanel": False,
        "browser.download.always_ask_before_handling_new_types": False,
        "browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False,
        "app.update.enabled": False, "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
        "ui.prefersReducedMotion": 1,
    }

    def __init__(self, program, _, downloads, log):
        profile = downloads.parent / "profile"
        profile.mkdir(exist_ok=True)
        settings = {**self.settings, "browser.download.dir": str(downloads)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items()]
        (profile / "user.js").write_text("".join(lines))
        command = [program, "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", str(profile)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.number = 0
        self.stream = self.connect(profile / "MarionetteActivePort")
        self.read()  # its greeting
        made = self.send("NewSession", {})
        self.version = made["capabilities"]["browserVersion"]
        self.resize(*SIZE)

    def connect(self, told):
        deadline = time.monotonic() + 90
        while not (told.exists() and told.read_text().strip()):
            assert self.process.poll() is None, "Firefox has ended while it was started"
            assert time.monotonic() < deadline, "Firefox was started and cannot be driven"
            time.sleep(0.1)
        return socket.create_connection(("127.0.0.1", int(told.read_text())), timeout=120).makefile("rwb")

    def read(self):
        length = b""
        while not length.endswith(b":"):
            byte = self.stream.read(1)
            assert byte, "Firefox has closed the connection"
            length += byte
        return json.loads(self.stream.read(int(length[:-1])))

    def send(self, command, params, module="WebDriver"):
        self.number += 1
        data = json.dumps([0, self.number, f"{module}:{command}", params]).encode()
        self.stream.write(b"%d:%s" % (len(data), data))
        self.stream.flush()
        _, number, error, value = self.read()
        assert number == self.number
        if error:
            raise RuntimeError(f"{command}: {error['message'][:2000]}")
        return value["value"] if isinstance(value, dict) and set(value) == {"value"} else value

    def resize(self, width, height):
        # What is given is the size of the window with its bars.
        outer = self.script("return [outerWidth - innerWidth, outerHeight - innerHeight]")
        self.send("SetWindowRect", {"width": width + outer[0], "height": height + outer[1]})
        self.wait("return innerWidth === arguments[0] && innerHeight === arguments[1]", 10, width, height)

    def drop(self, point, paths):
        """Lets files go over a point of the page; a script makes the events, which Firefox cannot be asked for."""
        self.script("const input = document.createElement('input'); input.type = 'file'; input.multiple = true; input.id = 'dropped';"
                    "input.hidden = true; document.body.append(input)")
        self.choose("#dropped", *paths)
        self.script(
            "const input = document.getElementById('dropped'); const data = new DataTransfer();"
            "for (const file of input.files) data.items.add(file); input.remove();"
            "const [clientX, clientY] = arguments; const target = document.elementFromPoint(clientX, clientY);"
            "for (const kind of ['dragenter', 'dragover', 'drop']) target.dispatchEvent(new DragEvent(kind,"
            "{ dataTransfer: data, bubbles: true, cancelable: true, composed: true, clientX, clientY }))", *point)

    def complaints(self):
        """What the page's scripts have complained about."""
        self.send("SetContext", {"value": "chrome"}, "Marionette")
        try:
            return self.script(
                "return Services.console.getMessageArray().filter((one) => one instanceof Ci.nsIScriptError"
                " && !(one.flags & Ci.nsIScriptError.warningFlag) && /^http:/.test(one.sourceName))"
                ".map((one) => `${one.sourceName}:${one.lineNumber} ${one.errorMessage}`)")
        finally:
            self.send("SetContext", {"value": "content"}, "Marionette")

    def close(self):
        try:
            self.send("Quit", {"flags": ["eForceQuit"]}, "Marionette")
        finally:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
