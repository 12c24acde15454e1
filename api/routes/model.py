"""The model: its manifest as JSON, and the card that training wrote."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from api.body import json_accepted
from api.openapi import problems
from api.problems import Problem
from api.schemas import ModelBody
from shared.records.artifact import Artifact

CARD = "model_card.html"
# The card is one file that carries its style and its pictures.
CARD_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def router(artifact: Artifact, directory: Path) -> APIRouter:
    """`/model` and `/model-card`."""
    router = APIRouter(tags=["Model"], responses=problems(401, 503))
    manifest = artifact.manifest
    about = ModelBody(
        **manifest.model_dump(exclude={"golden", "fields"}),
        fields=manifest.fields.fields,
        columns=manifest.fields.used_names,
        sha256=artifact.sha256,
    )

    @router.get(
        "/model",
        summary="What the model is and what it came from",
        dependencies=[Depends(json_accepted)],
        responses=problems(406),
    )
    async def model() -> ModelBody:
        return about

    @router.get(
        "/model-card",
        summary="The model card, for people",
        response_class=HTMLResponse,
        responses=problems(404),
    )
    async def model_card() -> HTMLResponse:
        return HTMLResponse(
            _card(directory, manifest.files.get(CARD)),
            headers={"Content-Security-Policy": CARD_POLICY},
        )

    return router


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
