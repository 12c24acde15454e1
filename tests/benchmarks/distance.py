"""Storage as far away as it is in a cloud: ports that pass requests on after a while."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvloop


class Pipe(asyncio.Protocol):
    """One end of a connection; what comes in goes out at the other end `seconds` later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.other: Pipe
        self.transport: asyncio.Transport
        self._early: list[bytes] | None = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def join(self, other: Pipe) -> None:
        """Begin to pass on."""
        self.other = other
        early, self._early = self._early, None
        for data in early or ():
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early.append(data)
        elif self._seconds:
            self._loop.call_later(self._seconds, self.other.transport.write, data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._early is None:  # behind all that is still on its way
            self._loop.call_later(self._seconds, self.other.transport.close)


async def serve(connection_string: str, seconds: float) -> None:
    """Print a connection string of the same storage, farther away, and serve until ended."""
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(near: Pipe, port: int) -> None:
        try:
            _, far = await loop.create_connection(lambda: Pipe(0), "127.0.0.1", port)
        except OSError:
            near.transport.close()
            return
        far.join(near)
        near.join(far)

    def accept(port: int) -> Pipe:
        near = Pipe(seconds)
        task = asyncio.create_task(join(near, port))
        joining.add(task)
        task.add_done_callback(joining.discard)
        return near

    for port in sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", connection_string))):
        server = await loop.create_server(partial(accept, int(port)), "127.0.0.1", 0)
        new = server.sockets[0].getsockname()[1]
        connection_string = connection_string.replace(f"127.0.0.1:{port}", f"127.0.0.1:{new}")
    print(connection_string, flush=True)
    await asyncio.Event().wait()


@contextmanager
def far_away(connection_string: str, seconds: float) -> Iterator[str]:
    """A connection string of the same storage, every request to which takes so much longer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.distance", str(seconds)],
        env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": connection_string},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            found = server.stdout.readline().strip()
            assert found, "the ports did not open"
            yield found
        finally:
            server.terminate()


if __name__ == "__main__":
    uvloop.run(serve(os.environ["AZURE_STORAGE_CONNECTION_STRING"], float(sys.argv[1])))
