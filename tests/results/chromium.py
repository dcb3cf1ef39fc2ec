"""Debian's chromium without a window, spoken to through two pipes (the DevTools protocol): no port, no package."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.install import no_chromium

CHROMIUM = shutil.which("chromium")
IS_LEFT_OUT = no_chromium() is not None and os.environ.get("CHROMIUM_TESTS") != "required"


class Browser:
    """One page in one browser.

    Attributes:
        complaints: what the page wrote on its console as an error or warning, uncaught errors, and what was refused.
        requests: addresses that were asked for.
    """

    def __init__(self, process: subprocess.Popen[bytes], to: int, from_: int) -> None:
        self._process, self._to, self._from = process, to, from_
        self._rest, self._number, self._session = b"", 0, ""
        self._limit_s: float | None = None  # for the next thing that the browser says
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def attach(self) -> None:
        """Opens an empty page and listens to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def size(self, width: int, height: int) -> None:
        """The size of the window's inside in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def colours(self, scheme: str) -> None:
        """What the system asks for: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path: Path, fragment: str = "") -> None:
        """Loads a file and waits until it is loaded."""
        self.call("Page.navigate", url=path.absolute().as_uri() + fragment)
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def poll(self, script: str) -> Any:
        """The value of an expression; None while the page is loaded anew, when a question can stay without answer."""
        self._limit_s = 3.0
        try:
            return self.run(script)
        except (AssertionError, TimeoutError):
            return None
        finally:
            self._limit_s = None

    def point(self, x: float, y: float, kind: str = "mouseMoved") -> None:
        """Moves the mouse there, or presses it; then waits for the next picture."""
        clicks = 0 if kind == "mouseMoved" else 1
        button = "left" if clicks else "none"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=clicks)
        self.wait_for_picture()

    def wait_for_picture(self) -> None:
        """Waits for the second frame from now: the first may have been begun before."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def click(self, x: float, y: float) -> None:
        """Clicks there."""
        self.point(x, y)
        self.point(x, y, "mousePressed")
        self.point(x, y, "mouseReleased")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Presses and releases a key, such as press("Tab", 9)."""
        more = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the page, or of what the window shows of it."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **(self._whole() if whole else {}))
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def printed(self) -> bytes:
        """The page as PDF on A4."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        return base64.b64decode(answer["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to one call."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def wait_for(self, event: str) -> None:
        """Waits until the page reports this event, which it may have done since the last wait."""
        while not any(one["method"] == event for one in self._events):
            self._next()
        self._events.clear()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], self._limit_s)[0]:
                raise TimeoutError
            read = os.read(self._from, 1 << 20)
            if not read:
                raise AssertionError(f"chromium ended with {self._process.wait()}")
            self._rest += read
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        given = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(given["exceptionDetails"]))
        if event["method"] == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(given["args"]))
        if event["method"] == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.complaints.append(given["entry"]["text"])
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])

    def _whole(self) -> dict[str, Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with one empty page, whose own files lie in the folder; it is gone afterwards."""
    assert CHROMIUM, no_chromium()
    page_reads, we_write = os.pipe()
    we_read, page_writes = os.pipe()
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'chromium'}",
    ]  # fmt: skip
    # The browser reads from its file 3 and writes to its file 4; the shell puts the pipes there.
    script = f'exec "$@" 3<&{page_reads} 4>&{page_writes}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "bash", *command],
        pass_fds=(page_reads, page_writes), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    os.close(page_reads)
    os.close(page_writes)
    browser = Browser(process, we_write, we_read)
    try:
        browser.attach()
        yield browser
    finally:
        os.close(we_write)
        os.close(we_read)
        process.terminate()
        process.wait()
