"""A headless Chromium, driven by its debugging protocol: opens a page, types, hears its sockets, takes its picture."""

import asyncio
import base64
import shutil
import struct
import subprocess
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from attrs import define, field

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 40.0


@define(eq=False)
class Page:
    """A page that is open.

    Attributes:
        received: everything that its sockets were sent.
    """

    socket: aiohttp.ClientWebSocketResponse
    received: bytes = b""
    _asked: int = 0
    _answers: dict[int, dict[str, Any]] = field(factory=dict)

    async def listen(self) -> None:
        async for message in self.socket:
            told = message.json()
            if "id" in told:
                self._answers[told["id"]] = told
            elif told["method"] == "Network.webSocketFrameReceived":
                frame = told["params"]["response"]
                self.received += base64.b64decode(frame["payloadData"]) if frame["opcode"] == 2 else b""

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        number = self._asked
        await self.socket.send_json({"id": number, "method": method, "params": params})
        await until(lambda: number in self._answers)
        return dict(self._answers.pop(number).get("result", {}))

    async def press(self, key: str) -> None:
        await self.evaluate("document.querySelector('textarea').focus()")
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def sees(self, text: str) -> None:
        """Until the console has drawn this."""
        await until(lambda: text.encode() in self.received, lambda: f"{text!r} in {self.received[-2000:]!r}")

    async def evaluate(self, expression: str) -> Any:
        return (await self.ask("Runtime.evaluate", expression=expression))["result"].get("value")

    async def picture(self) -> bytes:
        """As PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot"))["data"])


async def until(condition: Callable[[], bool], what: Callable[[], str] = str) -> None:
    """Wait for what another process brings about."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"the browser has not come so far: {what()}"
        await asyncio.sleep(0.02)


def browse(url: str, directory: Path, steps: Callable[[Page], Awaitable[None]]) -> None:
    """Open a page in a browser of its own, and do this with it."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,700"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={directory}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_browse(url, directory / "DevToolsActivePort", steps))
    finally:
        process.terminate()
        process.wait(10)


async def _browse(url: str, port: Path, steps: Callable[[Page], Awaitable[None]]) -> None:
    await until(lambda: _port(port) is not None)
    debugger = f"http://127.0.0.1:{_port(port)}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{debugger}/json/list") as answer:
            address = next(each for each in await answer.json() if each["type"] == "page")["webSocketDebuggerUrl"]
        async with session.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            listening = asyncio.ensure_future(page.listen())
            await page.ask("Network.enable")
            await page.ask("Page.enable")
            await page.ask("Page.navigate", url=url)
            await steps(page)
            listening.cancel()


def _port(file: Path) -> str | None:
    text = file.read_text() if file.exists() else ""
    return text.splitlines()[0] if "\n" in text else None


def different_rows(png: bytes) -> int:
    """How many different rows of pixels a picture has: one that shows nothing has a few."""
    data, position = b"", 8
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        data += png[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        position += 12 + length
    (height,) = struct.unpack(">I", png[20:24])
    raw = zlib.decompress(data)
    stride = len(raw) // height
    return len({raw[row * stride : (row + 1) * stride] for row in range(height)})
