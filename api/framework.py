"""FastAPI's part: finds every route by its path, refuses the others, and documents them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette

from api import batches, inference, model, openapi, pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp

    from api.routes import Route
    from api.store import Store
    from shared.records.artifact import Artifact
    from shared.records.scoring import Scorer
    from shared.settings import ApiSettings


class Framework(FastAPI):
    """FastAPI without the seven layers around its routes: `api.door` is the one layer here."""

    def build_middleware_stack(self) -> ASGIApp:
        return self.router

    # FastAPI's own would first ask whether it is to report to OpenTelemetry; it never is.
    __call__ = Starlette.__call__


class DocumentedRoute(APIRoute):
    """A route that FastAPI finds and documents, but does not take the request apart for."""

    def __init__(self, route: Route) -> None:
        # Told of no `response_model`, FastAPI would take the endpoint's annotation for one.
        options = route.options | {"response_model": None, "methods": [route.method]}
        super().__init__(route.path, route.endpoint, **options)
        self.app = route


def build(
    scores: Iterable[Route],
    probes: Iterable[Route],
    scorer: Scorer,
    artifact: Artifact,
    settings: ApiSettings,
    store: Store,
) -> FastAPI:
    """The whole API: the routes that are there already, and all others."""
    manifest = artifact.manifest
    app = Framework(
        title="heart-scorer",
        description=f"{manifest.title}\n\n{manifest.notice}",
        version=manifest.version,
        # Ours need no other host, and our errors are problems.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )

    @cache
    def document() -> bytes:
        return openapi.build(app, manifest, settings)

    for route in (
        *scores,
        *batches.routes(store, settings),
        *inference.routes(scorer, artifact, settings),
        *model.routes(artifact, settings.model_dir),
        *probes,
        *pages.routes(app.title, document),
    ):
        app.router.routes.append(DocumentedRoute(route))
    return app
