"""Puts the API together from what it is handed."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from typing import TYPE_CHECKING

from api import health, predict
from api.door import Door
from api.store import Connection, Store, connect
from shared.records.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from api.routes import Route
    from shared.records.artifact import Artifact
    from shared.settings import ApiSettings


class Routing:
    """Answers at the near routes by itself and leaves every other request to FastAPI.

    FastAPI is loaded when the first of those comes: that takes half as long as all else that a
    start needs, and a tenth of the memory, and a replica that only scores never has to pay. Its
    router also takes as long as scoring a record.
    """

    def __init__(self, near: Iterable[Route], build: Callable[[], FastAPI]) -> None:
        self._near = {(route.method, route.path): route for route in near}
        self._build = build
        self._loading = asyncio.Lock()
        self._loaded: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._near.get((scope["method"], scope["path"]))
        if route:
            scope["route"] = route
            await route(scope, receive, send)
        else:
            await (self._loaded or await self.load())(scope, receive, send)

    async def load(self) -> FastAPI:
        """FastAPI with every route; loaded in a thread, since requests go on meanwhile."""
        async with self._loading:
            if self._loaded is None:
                self._loaded = await asyncio.to_thread(self._build)
            return self._loaded


class Api:
    """The API as an ASGI application."""

    def __init__(self, routing: Routing, door: Door, store: Store) -> None:
        self.routing = routing
        self._door = door
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._door(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._store.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(
    artifact: Artifact,
    settings: ApiSettings,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = connect,
) -> Api:
    """The API over a loaded model; storage is connected when the first batch comes."""
    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.threshold)
    store = Store(partial(connect, settings))
    scores = predict.routes(scorer, manifest, settings)
    probes = health.routes(artifact)

    def build() -> FastAPI:
        from api import framework

        app = framework.build(scores, probes, scorer, artifact, settings, store)
        gc.freeze()  # as at the start: all that was loaded stays
        return app

    routing = Routing([*scores, *probes], build)
    door = Door(
        routing,
        keys=settings.keys,
        requests=settings.requests,
        model_version=manifest.version,
    )
    return Api(routing, door, store)
