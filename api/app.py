"""Puts the API together from what it is handed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.applications import Starlette

from api import batches, health, inference, model, openapi, pages, predict
from api.door import Door
from api.routes import PlainRoute
from api.store import Connection, Store, connect
from shared.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fastapi import APIRouter
    from starlette.types import ASGIApp, Receive, Scope, Send

    from shared.artifact import Artifact
    from shared.settings import ApiSettings


class Api(FastAPI):
    """FastAPI with one layer around its routes, where its own would be seven."""

    def __init__(self, door: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._door = door

    def build_middleware_stack(self) -> ASGIApp:
        return self._door(Shortcut(self.router))

    # FastAPI's own would first ask whether it is to report to OpenTelemetry; it never is.
    __call__ = Starlette.__call__


class Shortcut:
    """Finds routes without parameters by method and path; the others are left to the router.

    The router tries one route after the other and notes more than ours need, which takes as long as
    to score a record.
    """

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._routes = {
            (method, route.path): route
            for route in reversed(router.routes)
            if isinstance(route, PlainRoute) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["type"] == "http" and self._routes.get((scope["method"], scope["path"]))
        if route:
            scope["route"] = route
            await route.app(scope, receive, send)
        else:
            await self._router(scope, receive, send)


def create_app(
    artifact: Artifact,
    settings: ApiSettings,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = connect,
) -> FastAPI:
    """The API over a loaded model; storage is connected when the first batch comes."""
    store = Store(partial(connect, settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.threshold)
    app = Api(
        partial(
            Door,
            keys=settings.keys,
            requests=settings.requests,
            model_version=manifest.version,
        ),
        title="heart-scorer",
        description=f"{manifest.title}\n\n{manifest.notice}",
        version=manifest.version,
        # Ours need no other host, and our errors are problems.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )

    @cache
    def document() -> bytes:
        return openapi.build(app, manifest, settings)

    for router in (
        predict.router(scorer, manifest, settings),
        batches.router(store, settings),
        inference.router(scorer, artifact, settings),
        model.router(artifact, settings.model_dir),
        health.router(artifact),
        pages.router(app.title, document),
    ):
        # Not `include_router`, which would wrap each route in another one.
        app.router.routes.extend(router.routes)
    return app
