"""Probes. The port opens only when the model is loaded and checked, so any answer is good news."""

from fastapi import APIRouter, Response

from api.schemas import Live, Ready
from shared.records.artifact import Artifact


def router(artifact: Artifact) -> APIRouter:
    """`/livez` and `/readyz`, with the older name `/healthz`."""
    router = APIRouter(tags=["Operation"])
    version = artifact.manifest.version

    @router.get("/livez", summary="Whether the process is alive")
    async def livez() -> Live:
        return Live()

    @router.get(
        "/readyz",
        summary="Whether records can be scored",
        responses={503: {"model": Ready, "description": "The model fails its own test"}},
    )
    @router.get("/healthz", include_in_schema=False)
    async def readyz(response: Response) -> Ready:
        # The model scores its golden records each time: some ten of them.
        ready = artifact.golden_holds()
        response.status_code = 200 if ready else 503
        return Ready(ready=ready, model_version=version)

    return router
