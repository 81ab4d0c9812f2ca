"""A headless Chromium for tests, driven by its DevTools protocol over pipes: what pages say, ask for and look like."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def installed():
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Seen:
    """What happened while a page was open."""

    messages: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    values: dict = field(default_factory=dict)
    picture: bytes = b""


class Browser:
    """The browser. Commands go to its file descriptor 3, answers and events come from 4, each ended by a zero byte."""

    def __init__(self, folder):
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        high = [os.dup(own) for own in (commands, answers)]  # away from 3 and 4, which are made below

        def connect():
            high_again = [os.dup(own) for own in high]
            os.dup2(high_again[0], 3)
            os.dup2(high_again[1], 4)

        self._process = subprocess.Popen(
            [installed(), *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for own in (commands, answers, *high):
            os.close(own)
        self._number, self._rest, self._events = 0, b"", []

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser is gone")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def send(self, method, session=None, **parameters):
        """Send a command, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def _until(self, method):
        while not any(own["method"] == method for own in self._events):
            self._events.append(self._read())

    def open(self, path, *, width, height, dark=False, questions=()):
        """Open a page; evaluate expressions, and take a picture of what is on the screen."""
        self._events = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable", session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", session, features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", session, **size)
        self._events = []
        self.send("Page.navigate", session, url=Path(path).absolute().as_uri())
        self._until("Page.loadEventFired")
        seen = Seen()
        for question in questions:
            answer = self.send("Runtime.evaluate", session, expression=question, returnByValue=True)
            assert "exceptionDetails" not in answer, answer
            seen.values[question] = answer["result"]["value"]
        seen.picture = base64.b64decode(self.send("Page.captureScreenshot", session, format="png")["data"])
        for own in self._events:
            if own["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                seen.messages.append(own["params"])
            if own["method"] == "Network.requestWillBeSent":
                seen.requests.append(own["params"]["request"]["url"])
        self.send("Target.closeTarget", targetId=target)
        return seen

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError, RuntimeError):
            self.send("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for own in (self._in, self._out):
            os.close(own)


@contextlib.contextmanager
def browser():
    """A browser with a new, empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        own = Browser(folder)
        try:
            yield own
        finally:
            own.close()
