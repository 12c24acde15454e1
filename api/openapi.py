"""Parts of the OpenAPI document beyond the models: problems, keys and examples."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.middleware import PAGES, PROBES, not_authorised
from api.problems import (
    JSON,
    KINDS,
    PROBLEM,
    Code,
    Problem,
    ProblemDetails,
    details_of,
    overloaded,
    problem_of,
)
from shared.records.artifact import Golden, Manifest
from shared.records.coding import check_coding
from shared.records.counts import Counts
from shared.records.errors import AnotherCoding, FieldError, RecordRejected
from shared.records.schema import FieldTable

TAGS = [
    {"name": "Scores", "description": "Score records while the caller waits."},
    {"name": "Batches", "description": "Files that the worker scores."},
    {"name": "Model", "description": "The model, its card and files to fill in."},
    {"name": "Operation", "description": "Health probes."},
    {"name": "Open Inference Protocol V2", "description": "Tensors, for clients of other servers."},
]
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
REQUEST_ID = "4bf92f3577b34da6"

Responses = dict[int | str, dict[str, Any]]


def problems(*examples: Problem | Code, media_type: str = PROBLEM) -> Responses:
    """The `responses` of a route that may end with these problems, each as an example."""
    responses: Responses = {}
    _add_problems(responses, examples, media_type)
    return responses


def _add_problems(
    responses: Responses, examples: Iterable[Problem | Code], media_type: str
) -> None:
    for example in examples:
        problem = example if isinstance(example, Problem) else Problem(example)
        title, status = KINDS[problem.code].title, str(problem.status_code)
        response = responses.setdefault(
            status, {"content": {media_type: {"schema": ref(ProblemDetails), "examples": {}}}}
        )
        details = details_of(problem, REQUEST_ID).model_dump(exclude_unset=True)
        response["content"][media_type]["examples"][problem.code] = {
            "summary": title,
            "value": details,
        }
        response["description"] = "; ".join(filter(None, (response.get("description"), title)))
        for name in problem.headers or {}:
            described = RETRY_AFTER.get(name, {"schema": {"type": "string"}})
            response.setdefault("headers", {})[name] = described


REF = "#/components/schemas/{model}"


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A model of the document that a route reads by itself; pass it to `complete`, too."""
    return {"$ref": REF.format(model=model.__name__)}


def complete(app: FastAPI, *, secured: bool, models: Iterable[type[BaseModel]]) -> None:
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
            # Relative to the document, so that it holds behind a proxy, too.
            servers=[{"url": app.state.public_url or "."}],
        )
        for path, operations in document["paths"].items():
            media_type = JSON if path.startswith("/v2") else PROBLEM
            needs_key = secured and path not in PROBES | PAGES
            for operation in operations.values():
                responses = operation["responses"]
                _drop_validation_error(responses)
                if path not in PROBES:
                    _add_problems(responses, [overloaded(), "internal_error"], media_type)
                if needs_key:
                    _add_problems(responses, [not_authorised()], media_type)
                operation["responses"] = dict(sorted(responses.items()))
                if secured:
                    operation["security"] = [{"key": []}] if needs_key else []
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


def _drop_validation_error(responses: dict[str, Any]) -> None:
    """Remove the validation error that FastAPI adds where a route lists no 422: see `_invalid`."""
    schema = responses.get("422", {}).get("content", {}).get(JSON, {}).get("schema", {})
    if schema.get("$ref", "").endswith("/HTTPValidationError"):
        del responses["422"]


def a_rejection(table: FieldTable) -> FieldError:
    """The rejection of a value that its field does not accept."""
    number = next((field for field in table.fields if field.kind == "number"), None)
    return (
        number.rejection("out_of_range") if number else table.fields[0].rejection("unknown_value")
    )


def rejected(table: FieldTable) -> Problem:
    """The problem of a record with one value that its field does not accept."""
    return problem_of(RecordRejected((a_rejection(table),)))


def another_coding(table: FieldTable) -> list[Problem]:
    """The problem of two records of which one proves another coding; empty if none can."""
    marked = int(bool(table.coding_marks))
    try:
        check_coding(Counts(rows=2, other_coding=marked, marks=marked), table)
    except AnotherCoding as error:
        return [problem_of(error)]
    return []


def predict_description(manifest: Manifest) -> str:
    """The meaning of the score, and how records are read."""
    return (
        f"{manifest.title}.\n\nCategories may be sent as codes or as words. Leave out unknown "
        "fields, or send `null`; nothing is ever filled in. A value outside the accepted range is "
        "rejected; a value outside the range of the training data is scored with a warning."
        f"\n\n{manifest.notice}"
    )


def examples(manifest: Manifest) -> dict[str, Any]:
    """Three records of the manifest: the most complete, the highest answer and the least known."""
    golden = list(manifest.golden)

    def known(case: Golden) -> int:
        return sum(value is not None for value in case.record.values())

    chosen = {
        "Every field": max(golden, key=known),
        manifest.answer_kind.highest: max(golden, key=lambda case: max(case.output)),
        "Few fields": min(golden, key=known),
    }
    return {
        name.lower().replace(" ", "_"): {"summary": name, "value": _plain(case)}
        for name, case in chosen.items()
    }


def many_examples(manifest: Manifest) -> dict[str, Any]:
    """The same three in one array."""
    records = [example["value"] for example in examples(manifest).values()]
    return {"three": {"summary": f"Three {manifest.nouns}", "value": records}}


def _plain(case: Golden) -> dict[str, Any]:
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in case.record.items()
        if value is not None
    }
