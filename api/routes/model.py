"""The model: its manifest as JSON, the card that training wrote, and a file to fill in."""

import csv
import hashlib
import io
from pathlib import Path

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from api.body import json_accepted, not_acceptable
from api.html import POLICY_WITH_INLINE_STYLES, with_header
from api.openapi import examples, problems
from api.problems import Problem
from api.schemas import ModelBody, ModelExample
from shared.files.formats import FORMATS
from shared.records.artifact import Artifact, Manifest
from shared.records.template import example_row, header_row, note_row

CARD, TEMPLATE = "model_card.html", "template.xlsx"
"""Files of the artifact that training wrote for people."""
XLSX = FORMATS["xlsx"].content_type


def router(artifact: Artifact, directory: Path) -> APIRouter:
    """`/model`, `/model-card`, `/template.csv` and `/template.xlsx`."""
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
        summary="The model, its fields and its figures",
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
        card = _file(directory, manifest, CARD, no_card()).decode()
        # The card is one file that carries its style and its pictures.
        return HTMLResponse(
            with_header(card, "model-card"),
            headers={"Content-Security-Policy": POLICY_WITH_INLINE_STYLES},
        )

    @router.get(
        "/template.csv",
        summary="A CSV file to fill in: all fields and one example row",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def template() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="template.csv"'}
        return Response(_template(manifest), headers=headers, media_type="text/csv")

    @router.get(
        "/template.xlsx",
        summary="A workbook to fill in: words as lists, checked limits, one example row",
        response_class=Response,
        responses=problems(no_template())
        | {200: {"content": {XLSX: {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def template_workbook() -> Response:
        headers = {"Content-Disposition": 'attachment; filename="template.xlsx"'}
        content = _file(directory, manifest, TEMPLATE, no_template())
        return Response(content, headers=headers, media_type=XLSX)

    return router


def _template(manifest: Manifest) -> str:
    """A CSV file with units in a comment, the header and one example row."""
    text = io.StringIO()
    writer = csv.writer(text)
    rows = note_row(manifest.fields), header_row(manifest.fields), example_row(manifest)
    writer.writerows(rows)
    return text.getvalue()


def no_template() -> Problem:
    """The problem of an artifact that an older version made."""
    return Problem("not_found", "this artifact has no workbook; /template.csv has the same columns")


def no_card() -> Problem:
    """The problem of a model card that was never written."""
    return Problem("not_found", "this artifact has no model card; /model has the same facts")


def _file(directory: Path, manifest: Manifest, name: str, absent: Problem) -> bytes:
    """A file of the artifact, if it is the one that the manifest names. Raises `Problem`."""
    sha256 = manifest.files.get(name)
    if sha256 is None:
        raise absent
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise Problem("not_found", f"the artifact's {name} is missing") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Problem("not_found", f"the artifact's {name} is not the one of its manifest")
    return content
