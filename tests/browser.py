"""Debian's Chromium without a screen, asked by the DevTools protocol: what a page logs, asks for and draws."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

START_S, ANSWER_S, SETTLED_S = 30.0, 20.0, 0.05
# What tells of the page itself: what it says on the console, and what it would have from elsewhere.
SAID = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
ASKED = {"Network.requestWillBeSent"}


class Tab:
    """One page of a browser. `said` is all that came on its console, exceptions and refusals too, `asked` each URL it wanted."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._number = 0
        self.said: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._events: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Result of one command; raises AssertionError where the browser refuses it."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = self._hear()
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                return message["result"]

    def _hear(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv())
        method, params = message.get("method"), message.get("params", {})
        self._events.append(method)
        if method in SAID:
            self.said.append(params)
        if method in ASKED:
            self.asked.append(params["request"]["url"])
        return message

    def open(self, path: Path, width: int = 1280, height: int = 800, dark: bool = False, medium: str = "") -> None:
        """A file, as a screen of this size shows it; returns when it has been loaded, its scripts have run, and all is drawn."""
        self.resize(width, height)
        self.emulate(dark, medium)
        self.load(path)
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """A screen of this size; a small one is that of a phone."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.settle()

    def load(self, path: Path) -> None:
        """A file; what came of the one before is forgotten."""
        for told in (self.said, self.asked, self._events):
            told.clear()
        self.tell("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._hear()

    def emulate(self, dark: bool = False, medium: str = "") -> None:
        """What the page is told of the reader's wishes, and of the medium."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def settle(self) -> None:
        """Let it draw two frames."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def ask(self, script: str) -> Any:
        """The value of an expression, awaited; raises AssertionError with the exception that it threw."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """One key, down and up."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.tell("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **named)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """mousePressed, mouseMoved, mouseReleased at this point of the window."""
        self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, whole: bool = False) -> bytes:
        """PNG of what the window shows, or of the whole page."""
        size = self.tell("Page.getLayoutMetrics")["cssContentSize"] if whole else None
        clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if size else {}
        return base64.b64decode(self.tell("Page.captureScreenshot", captureBeyondViewport=whole, **clip)["data"])


@contextmanager
def browsing(options: Sequence[str] = ()) -> Iterator[Tab]:
    """A browser with one tab, on a profile of its own; both are gone afterwards. Raises FileNotFoundError without Chromium."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        line = [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--remote-debugging-port=0", "--remote-allow-origins=*"),
            *(f"--user-data-dir={profile}", *options, "about:blank"),
        ]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            port, path = _opened(Path(profile), process)
            browser = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=ANSWER_S)
            browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = json.loads(browser.recv())["result"]["targetId"]
            tab = websocket.create_connection(f"ws://127.0.0.1:{port}/devtools/page/{target}", timeout=ANSWER_S)
            yield Tab(tab)
            tab.close()
            browser.send(json.dumps({"id": 2, "method": "Browser.close"}))
            browser.close()
            process.wait(ANSWER_S)
        finally:
            process.kill()
            process.wait()


def _opened(profile: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Port and path at which it is asked, once it has written them down."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        found = profile / "DevToolsActivePort"
        if found.exists() and len(lines := found.read_text().split()) == 2:
            return lines[0], lines[1]
        time.sleep(SETTLED_S)
    raise AssertionError(f"chromium does not answer; its exit code is {process.poll()}")
