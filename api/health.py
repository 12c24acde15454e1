"""Probes. The port opens only when the model is loaded and checked, so an answer says much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from api import document
from api.routes import JsonAnswer, Routes

if TYPE_CHECKING:
    from shared.artifact import Artifact


def routes(artifact: Artifact) -> Routes:
    """`/livez` and `/readyz`, with the older name `/healthz`."""
    routes = Routes("Operation")

    @routes.get("/livez", summary="Whether the process turns", responses=document.answers("Any"))
    async def livez(_: Request) -> JsonAnswer:
        return JsonAnswer({"live": True})

    @routes.get(
        "/readyz",
        summary="Whether records can be scored",
        responses=document.answers("Any") | {503: {"description": "The model fails its own test"}},
    )
    @routes.get("/healthz", include_in_schema=False)
    async def readyz(_: Request) -> JsonAnswer:
        # The model's own answers, each time: some ten records.
        sound = artifact.golden_holds()
        body = {"ready": sound, "model_version": artifact.manifest.version}
        return JsonAnswer(body, 200 if sound else 503)

    return routes
