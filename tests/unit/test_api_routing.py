"""FastAPI is loaded for the first request that needs it: once, and not for scores and probes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from api.app import Routing
from api.routes import Routes


def near() -> Routes:
    routes = Routes("Near")

    @routes.get("/near")
    async def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("near")

    return routes


def far() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/far")
    def answer() -> str:
        return "far"

    @app.delete("/near")
    def remove() -> str:
        return "removed"

    return app


async def get(routing: Routing, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
    await routing(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_near_route_is_answered_without_loading() -> None:
    def load() -> FastAPI:
        raise AssertionError("loaded")

    assert await get(Routing(near(), load), "/near") == (200, b"near")


async def test_many_first_requests_load_once_and_near_ones_go_on_meanwhile() -> None:
    loads = 0
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> FastAPI:
        nonlocal loads
        loads += 1
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return far()

    routing = Routing(near(), load)
    waiting = [asyncio.create_task(get(routing, "/far")) for _ in range(3)]
    await asyncio.sleep(0)

    assert await get(routing, "/near") == (200, b"near")
    assert not any(task.done() for task in waiting)
    go_on.set()
    assert await asyncio.gather(*waiting) == [(200, b'"far"')] * 3
    assert loads == 1


async def test_a_load_that_failed_is_tried_again() -> None:
    fails = iter([True, False])

    def load() -> FastAPI:
        if next(fails):
            raise ImportError("no room")
        return far()

    routing = Routing(near(), load)

    with pytest.raises(ImportError):
        await get(routing, "/far")
    assert await get(routing, "/far") == (200, b'"far"')


async def test_another_method_of_a_near_path_is_left_to_fastapi() -> None:
    assert await get(Routing(near(), far), "/near", "DELETE") == (200, b'"removed"')
