"""What the OpenAPI document says beyond the models: problems, keys and examples."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.middleware import PAGES, PROBES
from api.problems import JSON, KINDS, PROBLEM, ProblemDetails
from shared.records.artifact import Golden, Manifest

TAGS = [
    {"name": "Scores", "description": "Scores while the caller waits."},
    {"name": "Batches", "description": "Files that the worker scores."},
    {"name": "Model", "description": "The model that scores."},
    {"name": "Operation", "description": "Probes."},
    {"name": "Open Inference Protocol V2", "description": "Tensors, for clients of other servers."},
]
RETRIES = frozenset({409, 503})
"""Statuses that come with Retry-After."""
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        titles = dict.fromkeys(kind.title for kind in KINDS.values() if kind.status == status)
        documented[status] = {"model": ProblemDetails, "description": "; ".join(titles)}
        if status in RETRIES:
            documented[status]["headers"] = RETRY_AFTER
    return documented


REF = "#/components/schemas/{model}"


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A model of the document that a route reads by itself; pass it to `complete`, too."""
    return {"$ref": REF.format(model=model.__name__)}


def complete(app: FastAPI, *, secured: bool, models: Iterable[type[BaseModel]] = ()) -> None:
    """Let the app's document say what FastAPI cannot know of it."""

    @cache
    def document() -> dict[str, Any]:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            contact=app.contact,
            license_info=app.license_info,
            # Relative to the document, so that they hold behind a proxy, too.
            servers=[{"url": "."}],
        )
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _complete_problems(operation["responses"], JSON if "/v2" in path else PROBLEM)
                if secured:
                    operation["security"] = [] if path in PROBES | PAGES else [{"key": []}]
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for model in models:
            schema = model.model_json_schema(ref_template=REF)
            schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        if secured:
            key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
            document["components"]["securitySchemes"] = {"key": key}
        return document

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI documents it


def _complete_problems(responses: dict[str, Any], media_type: str) -> None:
    """Name the media type of problems; drop the validation error that is never answered."""
    for status in [status for status in responses if status >= "400"]:
        content = responses[status].get("content", {})
        schema = content.pop(JSON, {}).get("schema", {})
        if schema.get("$ref", "").endswith("/HTTPValidationError"):
            del responses[status]
        elif schema:
            content[media_type] = {"schema": schema}


def predict_description(manifest: Manifest) -> str:
    """What the score means, and how records are read."""
    return (
        f"{manifest.title}.\n\nCategories may be sent as codes or as words. Leave out, or send "
        "`null` for, what is not known; nothing is ever filled in. A value outside the accepted "
        "range is refused; one outside the range that the model has seen is scored with a warning."
        f"\n\n{manifest.notice}"
    )


def examples(manifest: Manifest) -> dict[str, Any]:
    """Three records of the manifest: the most complete, the highest score and the least known."""
    golden = list(manifest.golden)

    def known(case: Golden) -> int:
        return sum(value is not None for value in case.record.values())

    chosen = {
        "Every field": max(golden, key=known),
        "Highest score": max(golden, key=lambda case: case.probability),
        "Few fields": min(golden, key=known),
    }
    return {
        name.lower().replace(" ", "_"): {"summary": name, "value": _plain(case)}
        for name, case in chosen.items()
    }


def many_examples(manifest: Manifest) -> dict[str, Any]:
    """The same three in one array."""
    records = [example["value"] for example in examples(manifest).values()]
    return {"three": {"summary": "Three patients", "value": records}}


def _plain(case: Golden) -> dict[str, Any]:
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in case.record.items()
        if value is not None
    }
