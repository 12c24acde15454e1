"""Probes. The port opens only when the model is loaded and checked, so an answer says much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from api import document
from api.routes import JsonAnswer, Routes

if TYPE_CHECKING:
    from api.routes import Route
    from shared.records.artifact import Artifact


def routes(artifact: Artifact) -> list[Route]:
    """`/livez` and `/readyz`, with the older name `/healthz`, and the same below `/v2`."""
    routes = Routes("Operation")
    below_v2 = Routes("Open Inference Protocol V2", "/v2/health")
    of_live = {"summary": "Whether the process turns", "responses": document.answers("Any")}
    of_ready = {
        "summary": "Whether records can be scored",
        "responses": document.answers("Any")
        | {503: {"description": "The model fails its own test"}},
    }

    @routes.get("/livez", **of_live)
    async def livez(_: Request) -> JsonAnswer:
        return JsonAnswer({"live": True})

    @routes.get("/readyz", **of_ready)
    @routes.get("/healthz", include_in_schema=False)
    async def readyz(_: Request) -> JsonAnswer:
        # The model's own answers, each time: some ten records.
        sound = artifact.golden_holds()
        body = {"ready": sound, "model_version": artifact.manifest.version}
        return JsonAnswer(body, 200 if sound else 503)

    @below_v2.get("/live", **of_live)
    async def live(_: Request) -> JsonAnswer:
        return JsonAnswer({"live": True})

    @below_v2.get("/ready", **of_ready)
    async def ready(_: Request) -> JsonAnswer:
        sound = artifact.golden_holds()
        return JsonAnswer({"live": True, "ready": sound}, 200 if sound else 503)

    return [*routes, *below_v2]
