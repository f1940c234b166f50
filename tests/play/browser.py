"""Chromium without a window, driven through chromedriver: WebDriver over HTTP, by the standard library.

Only what the tests of the page need: https://www.w3.org/TR/webdriver2/.
"""

import base64
import json
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, fixed by the standard
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]


def missing():
    """Why there is no browser here, or nothing."""
    if not any(map(shutil.which, BROWSERS)):
        return "there is no chromium"
    return "" if shutil.which("chromedriver") else "there is no chromedriver"


@contextmanager
def browser():
    """A browser with one empty page."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = int(line.split("port")[1].strip(" .\n"))
                break
        binary = next(filter(None, map(shutil.which, BROWSERS)))
        options = {"binary": binary, "args": OPTIONS}
        base = f"http://127.0.0.1:{port}/session"
        session = _send(
            "POST",
            base,
            {
                "capabilities": {
                    "alwaysMatch": {
                        "browserName": "chrome",
                        "goog:chromeOptions": options,
                        "goog:loggingPrefs": {"browser": "ALL"},
                    }
                }
            },
        )
        page = Page(f"{base}/{session['sessionId']}")
        try:
            yield page
        finally:
            page.send("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()


def _send(method, url, values=None):
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.loads(error.read())["value"]["message"]) from None


class Page:
    """The page of a browser."""

    def __init__(self, url):
        self.url = url

    def send(self, method, path, values=None):
        return _send(method, self.url + path, values)

    def open(self, url):
        self.send("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a function's body in the page."""
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, expression, *arguments):
        """The value of an expression, which may be a promise, once it is true."""
        script = (
            "const done = arguments[arguments.length - 1], end = performance.now() + 20000;"
            "const look = async () => { const value = await (" + expression + ");"
            "value || performance.now() > end ? done(value) : setTimeout(look, 5); }; look();"
        )
        value = self.send("POST", "/execute/async", {"script": script, "args": list(arguments)})
        assert value, f"never true: {expression}"
        return value

    def find(self, selector):
        return self.send("POST", "/element", {"using": "css selector", "value": selector})

    def click(self, selector):
        self.send("POST", f"/element/{self.find(selector)[ELEMENT]}/click", {})

    def press(self, *keys):
        """Press keys one after the other; 'Tab', 'ArrowLeft', … by their WebDriver codes."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.act([{"type": "key", "id": "keyboard", "actions": actions}])

    def draw(self, selector, *strokes, pointer="mouse"):
        """Draw lines of points (x, y), in 0 … 1 of an element's box, one after the other."""
        script = (
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
            "const b = e.getBoundingClientRect(); return [b.left + e.clientLeft, b.top + e.clientTop,"
            "e.clientWidth, e.clientHeight];"
        )
        left, top, width, height = self.run(script, selector)
        actions = []
        for stroke in strokes:
            first, *others = (
                {
                    "type": "pointerMove",
                    "duration": 0,
                    "x": round(left + x * width),
                    "y": round(top + y * height),
                }
                for x, y in stroke
            )
            down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
            actions += [first, down, *others, up]
        source = {"type": "pointer", "id": pointer, "parameters": {"pointerType": pointer}}
        self.act([{**source, "actions": actions}])

    def act(self, sources):
        self.send("POST", "/actions", {"actions": sources})
        self.send("DELETE", "/actions")

    def devtools(self, command, **parameters):
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width, height, scheme="light", mobile=False):
        """Give the window a size in pixels, and the page a light or dark scheme."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path):
        """Save the whole page, below the window's edge too."""
        got = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(got["data"]))

    def complaints(self):
        """What the browser's console says since the last call."""
        return [entry["message"] for entry in self.send("POST", "/se/log", {"type": "browser"})]
