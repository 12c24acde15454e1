"""A headless Chromium, driven through its debugging port, that may reach this machine only."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--window-size=1280,1400",
    # The network is cut: no name but this machine's is found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Page:
    """One tab: what it asked for, what it complained of, what it shows."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser says."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said.get("result", said))
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            elif said["method"] == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(said["params"]["exceptionDetails"]["text"])

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the debugging protocol."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, 20)

    async def open(self, url: str) -> None:
        for domain in ("Network", "Log", "Runtime", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def wait_for(self, expression: str, seconds: float = 120) -> None:
        """Wait until an expression is true in the page."""
        ends = time.monotonic() + seconds
        while not await self.value(f"Boolean({expression})"):
            assert time.monotonic() < ends, f"never true: {expression}; {self.complaints}"
            await asyncio.sleep(0.1)

    async def screenshot(self, path: Path) -> None:
        shot = await self.call("Page.captureScreenshot")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium_page(profile: Path) -> AsyncIterator[Page]:
    """A tab of a new browser. Skips the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), "")
    if not program:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    arguments = [*FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = await asyncio.create_subprocess_exec(
        program, *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        port = await _port(browser, profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                [tab] = [t for t in await answer.json() if t["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                listening.cancel()
    finally:
        browser.terminate()
        await asyncio.wait_for(browser.wait(), 120)


async def _port(browser: asyncio.subprocess.Process, file: Path) -> int:
    for _ in range(1200):
        written = await asyncio.to_thread(_first_line, file)
        if written:
            return int(written)
        assert browser.returncode is None, "Chromium ended at once"
        await asyncio.sleep(0.1)
    raise AssertionError("Chromium opened no debugging port")


def _first_line(file: Path) -> str:
    return file.read_text().partition("\n")[0] if file.is_file() else ""
