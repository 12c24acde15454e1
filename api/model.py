"""What the manifest knows of the model: as JSON, and as the card that training wrote."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse

from api import document
from api.problems import Problem
from api.routes import JsonAnswer, Routes, check_accept

if TYPE_CHECKING:
    from pathlib import Path

    from shared.records.artifact import Artifact

CARD = "model_card.html"
# The card is one file that carries its style and its pictures.
CARD_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def routes(artifact: Artifact, directory: Path) -> Routes:
    """`/model` and `/model-card`."""
    routes = Routes("Model")
    manifest = artifact.manifest
    about = manifest.model_dump(mode="json", exclude={"golden"})
    about |= {
        "fields": about["fields"]["fields"],
        "columns": manifest.fields.used_names,
        "sha256": artifact.sha256,
    }

    @routes.get(
        "/model",
        summary="What the model is and what it came from",
        responses=document.answers("Model", 401, 406, 503),
    )
    async def model(request: Request) -> JsonAnswer:
        check_accept(request)
        return JsonAnswer(about)

    @routes.get(
        "/model-card",
        summary="The model card, for people",
        response_class=HTMLResponse,
        responses=document.answers(None, 401, 404, 503),
    )
    async def model_card(_: Request) -> HTMLResponse:
        return HTMLResponse(
            _card(directory, manifest.files.get(CARD)),
            headers={"Content-Security-Policy": CARD_POLICY},
        )

    return routes


def _card(directory: Path, sha256: str | None) -> bytes:
    """The card, if it is the one that the manifest names. Raises `Problem`."""
    if sha256 is None:
        raise Problem("not_found", "this artifact has no model card; /model has the same facts")
    try:
        content = (directory / CARD).read_bytes()
    except OSError as error:
        raise Problem("not_found", "the artifact's model card is missing") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Problem("not_found", "the artifact's model card is not the one of its manifest")
    return content
