"""The model: its manifest as JSON, the card that training wrote, and a file to fill in."""

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from api.body import json_accepted, not_acceptable
from api.html import POLICY_WITH_INLINE_STYLES, with_header
from api.openapi import examples, problems
from api.problems import Problem
from api.schemas import ModelBody, ModelExample
from shared.records.artifact import Artifact, Manifest
from shared.records.schema import FieldSpec

CARD = "model_card.html"


def router(artifact: Artifact, directory: Path) -> APIRouter:
    """`/model`, `/model-card` and `/template.csv`."""
    router = APIRouter(tags=["Model"])
    manifest = artifact.manifest
    records = {e["summary"]: e["value"] for e in examples(manifest).values()}
    about = ModelBody(
        **manifest.model_dump(exclude={"golden", "fields"}),
        fields=manifest.fields.fields,
        record_id=manifest.fields.record_id,
        columns=manifest.fields.used_names,
        examples=tuple(
            ModelExample(title=title, record=record) for title, record in records.items()
        ),
        sha256=artifact.sha256,
    )

    @router.get(
        "/model",
        summary="What the model is and what it came from",
        dependencies=[Depends(json_accepted)],
        responses=problems(not_acceptable()),
    )
    async def get_model() -> ModelBody:
        return about

    @router.get(
        "/model-card",
        summary="The model card, for people",
        response_class=HTMLResponse,
        responses=problems(no_card()),
    )
    async def get_model_card() -> HTMLResponse:
        card = _card(directory, manifest.files.get(CARD)).decode()
        # The card is one file that carries its style and its pictures.
        return HTMLResponse(
            with_header(card, "model-card"),
            headers={"Content-Security-Policy": POLICY_WITH_INLINE_STYLES},
        )

    @router.get(
        "/template.csv",
        summary="A file to fill in: all fields, and one row that is right",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def template() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="template.csv"'}
        record = next(iter(records.values()))
        return Response(_template(manifest, record), headers=headers, media_type="text/csv")

    return router


def _template(manifest: Manifest, record: dict[str, Any]) -> str:
    """A CSV file with the header and one example row."""
    fields = manifest.fields.fields
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([manifest.fields.record_id, *(field.name for field in fields)])
    writer.writerow(["example-1", *(_cell(field, record.get(field.name)) for field in fields)])
    return text.getvalue()


def _cell(field: FieldSpec, value: object) -> object:
    """A value as people write it: words in place of codes."""
    words = {choice.code: choice.word for choice in field.choices}
    return "" if value is None else words.get(value) or value  # type: ignore[call-overload]


def no_card() -> Problem:
    """The problem of a model card that was never written."""
    return Problem("not_found", "this artifact has no model card; /model has the same facts")


def _card(directory: Path, sha256: str | None) -> bytes:
    """The card, if it is the one that the manifest names. Raises `Problem`."""
    if sha256 is None:
        raise no_card()
    try:
        content = (directory / CARD).read_bytes()
    except OSError as error:
        raise Problem("not_found", "the artifact's model card is missing") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Problem("not_found", "the artifact's model card is not the one of its manifest")
    return content
