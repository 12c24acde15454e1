"""Probes. The port opens only when the model is loaded and checked, so an answer says much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from api.routes import new_router

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

    from shared.artifact import Manifest


def router(manifest: Manifest) -> APIRouter:
    """`/livez` and `/readyz`, with the older name `/healthz`."""
    routes = new_router("Operation")

    @routes.get("/livez", summary="Whether the process turns")
    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    @routes.get("/readyz", summary="Whether records can be scored")
    @routes.get("/healthz", include_in_schema=False)
    async def readyz(_: Request) -> JSONResponse:
        return JSONResponse({"ready": True, "model_version": manifest.version})

    return routes
