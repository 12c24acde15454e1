"""An HTTP proxy before Azurite that loses requests, or answers after the server acted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import ClientSession, web
from yarl import URL

from cli.local import connection_string as azurite_connection
from tests.faulty import Call

Action = Literal["drop request", "drop answer", "cut answer"] | tuple[int, dict[str, str]]
"""Lose it before or after storage acted, lose half of the answer, or answer with this instead."""
Decide = Callable[[Call, int], Action | None]
"""The action for the n-th request of a kind (from 1)."""

_HOP = {"transfer-encoding", "connection", "keep-alive", "host"}


def call_of(method: str, path: str, query: dict[str, str]) -> Call:
    """Which of the worker's calls a request is."""
    if "/messages" in path:
        kinds: dict[str, Call] = {"GET": "receive", "PUT": "renew", "DELETE": "delete"}
        if "peekonly" in query:
            return "peek"
        return kinds.get(method, "poison" if "-poison/" in path else "send")
    match method, query.get("comp"):
        case "PUT", "block" if "/scores." not in path and "/scores/" in path:
            return "stage_profile" if path.endswith("profile.json") else "stage_counts"
        case "PUT", "blocklist" if "/scores." not in path and "/scores/" in path:
            return "commit_profile" if path.endswith("profile.json") else "commit_counts"
        case "PUT", "block":
            return "stage"
        case "PUT", "blocklist":
            return "commit"
        case "GET", "blocklist":
            return "staged"
        case "PUT", None:
            return "summary"
        case "HEAD", _:
            return "facts"
        case "GET", "list":
            return "listing"
        case "GET", "metadata":
            return "length"
        case "DELETE", _:
            return "discard"
        case _:
            return "chunks"


class Proxy:
    """Sits before blobs and queues and decides request by request."""

    def __init__(self) -> None:
        self.decide: Decide = lambda call, number: None
        self.seen: Counter[Call] = Counter()
        self.connection_string = ""

    def forget(self, decide: Decide) -> None:
        """Reset the counters, and use these decisions from now on."""
        self.seen.clear()
        self.decide = decide

    async def answer(
        self, session: ClientSession, port: int, request: web.Request
    ) -> web.StreamResponse:
        call = call_of(request.method, request.path, dict(request.query))
        self.seen[call] += 1
        action = self.decide(call, self.seen[call])
        if action == "drop request":
            return _lost(request)
        if isinstance(action, tuple):
            return web.Response(status=action[0], headers=action[1])
        url = URL(f"http://127.0.0.1:{port}{request.raw_path}", encoded=True)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        content = await request.read() or None
        async with session.request(
            request.method,
            url,
            headers=headers,
            data=content,
            skip_auto_headers=["Content-Type"],  # it is part of the signature
        ) as answer:
            body = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        if action == "drop answer":
            return _lost(request)
        if action == "cut answer":
            half = web.StreamResponse(status=answer.status, headers=kept)
            await half.prepare(request)
            await half.write(body[: len(body) // 2])
            _lost(request)
            return half
        return web.Response(status=answer.status, headers=kept, body=body)


def _lost(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def proxied(connection: str) -> AsyncIterator[Proxy]:
    """A proxy before the Azurite of this connection string."""
    proxy = Proxy()
    runners: list[web.AppRunner] = []
    ports: list[int] = []
    async with ClientSession(auto_decompress=False) as session:
        try:
            for kind in ("Blob", "Queue"):
                found = re.search(rf"{kind}Endpoint=http://127\.0\.0\.1:(\d+)/", connection)
                assert found is not None
                target = int(found[1])

                async def answer(request: web.Request, target: int = target) -> web.StreamResponse:
                    return await proxy.answer(session, target, request)

                app = web.Application(client_max_size=64 << 20)
                app.router.add_route("*", "/{path:.*}", answer)
                runner = web.AppRunner(app, access_log=None)
                runners.append(runner)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                ports.append(runner.addresses[0][1])
            proxy.connection_string = azurite_connection(*ports)
            yield proxy
        finally:
            for runner in runners:
                await runner.cleanup()
