"""A headless Chromium, driven over WebDriver (W3C) by the standard library alone."""

import base64
import json
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zlib

DRIVERS = ("chromedriver",)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Where Debian and Ubuntu put the driver when it is not on the path.
DRIVER_PLACES = ("/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")

# The traffic of a test stays on this machine: nothing is fetched, reported or updated.
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-default-apps", "--disable-extensions",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


class Missing(Exception):
    """There is no browser on this machine."""


class Failed(Exception):
    """The browser did not do what it was asked."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, limit, look):
    """Waits until `look` gives something true; fails with what was awaited and what was seen last."""
    end, last = time.monotonic() + limit, None
    while time.monotonic() < end:
        last = look()
        if last:
            return last
        time.sleep(0.02)
    raise Failed(f"waited {limit} s for {what}; seen last: {last!r}")


def smaller(png):
    """The same picture with its data packed as tightly as zlib can: a browser packs for speed (PNG, W3C, section 5)."""
    head, at, chunks = png[:8], 8, []
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        chunks.append((kind, png[at + 8:at + 8 + length]))
        at += 12 + length
    data = zlib.compress(zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT")), 9)
    before = [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]
    packed = [*before, (b"IDAT", data), (b"IEND", b"")]
    return head + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in packed)


class Browser:
    """One browser with a profile of its own, which is gone with it."""

    def __init__(self):
        driver = next((path for path in map(shutil.which, DRIVERS + DRIVER_PLACES) if path), None)
        browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
        if not driver or not browser:
            raise Missing(f"no {'chromedriver' if browser else 'chromium'} on this machine")
        self.profile = tempfile.TemporaryDirectory(prefix="tidegate-page-", ignore_cleanup_errors=True)
        port = free_port()
        self.root = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [driver, f"--port={port}", "--silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.session = None
        try:
            wait_for("the driver to listen", 20, self._listens)
            options = {"binary": browser, "args": [*ARGUMENTS, f"--user-data-dir={self.profile.name}"]}
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
            self.session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def _listens(self):
        if self.process.poll() is not None:
            raise Failed(f"the driver ended with {self.process.returncode}")
        try:
            return self._call("GET", "/status")["ready"]
        except OSError:
            return False

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"content-type": "application/json"}, method=method)
        # No proxy of the environment is to be asked for what is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error).get("value", {})
            raise Failed(f"{value.get('error')}: {value.get('message', '').splitlines()[:1]}") from None

    def _ask(self, method, path, body=None):
        return self._call(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs the body of a function in the page and gives what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("const e = document.querySelector(arguments[0]); return e && e.textContent", selector)

    def click(self, selector):
        """A true click: refused where something lies over the element, or it is not shown."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{next(iter(found.values()))}/click", {})

    def devtools(self, command, **parameters):
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height, scale=1, phone=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)

    def dark(self, dark):
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def console(self):
        """Errors and warnings of the console since the last look."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def picture(self, path, whole=False):
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(smaller(base64.b64decode(shot["data"])))

    def close(self):
        try:
            if self.session:
                self._ask("DELETE", "")
        except (OSError, Failed):
            pass
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()
