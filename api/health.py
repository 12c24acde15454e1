"""Probes. The port opens only when the model is loaded and checked, so an answer says much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from api import document
from api.routes import JsonAnswer, Routes

if TYPE_CHECKING:
    from shared.artifact import Artifact


def routes(artifact: Artifact) -> Routes:
    """`/livez` and `/readyz`, with the older name `/healthz`, and the same below `/v2`."""
    routes = Routes("Operation")
    failing = {503: {"description": "The model fails its own test"}}
    alive = {"summary": "Whether the process turns", "responses": document.answers("Any")}
    ready = {
        "summary": "Whether records can be scored",
        "responses": document.answers("Any") | failing,
    }
    tagged = {"tags": ["Open Inference Protocol V2"]}

    @routes.get("/livez", **alive)
    @routes.get("/v2/health/live", **alive | tagged)
    async def livez(_: Request) -> JsonAnswer:
        return JsonAnswer({"live": True})

    @routes.get("/readyz", **ready)
    @routes.get("/healthz", include_in_schema=False)
    async def readyz(_: Request) -> JsonAnswer:
        # The model's own answers, each time: some ten records.
        sound = artifact.golden_holds()
        body = {"ready": sound, "model_version": artifact.manifest.version}
        return JsonAnswer(body, 200 if sound else 503)

    @routes.get("/v2/health/ready", **ready | tagged)
    async def v2_ready(_: Request) -> JsonAnswer:
        sound = artifact.golden_holds()
        return JsonAnswer({"live": True, "ready": sound}, 200 if sound else 503)

    return routes
