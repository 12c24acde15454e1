"""A small HTTP load generator: keep-alive connections that each wait for their answer.

`python -m tests.benchmarks.load URL CONNECTIONS SECONDS` prints requests/s and latencies as JSON.
Only for 127.0.0.1, bounded in count and time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

BODY = json.dumps({"age": 63, "sex": 1, "cp": 3, "trestbps": 145, "chol": 233}).encode()


class Caller(asyncio.Protocol):
    """One connection: sends a request, waits for the whole answer, sends the next."""

    def __init__(self, request: bytes, ends: float, latencies: list[float]) -> None:
        self._request = request
        self._ends = ends
        self._latencies = latencies
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if now < self._ends:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))


async def run(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Requests/s, and the latencies' median and 99th percentile in seconds."""
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1", "only this machine"
    request = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    callers = [
        (
            await loop.create_connection(
                lambda: Caller(request, begun + seconds, latencies), "127.0.0.1", parts.port or 80
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    took = time.perf_counter() - begun
    assert not any(caller.failed for caller in callers), "not every answer was a 200"
    latencies.sort()
    return {
        "per_second": len(latencies) / took,
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
