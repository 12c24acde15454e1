"""The OpenAPI document, built from the manifest's field table, and what answers may be made of.

Routes read their bodies themselves, so that nothing is checked twice; here stands what they take.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from starlette.requests import Request

from api.problems import KINDS, Problem
from shared.fields import CODES, MISSING, RECORD_ID, RECORD_ID_LENGTH

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.artifact import Golden, Manifest
    from shared.fields import Field
    from shared.settings import ApiSettings

PROBLEM = "application/problem+json"
JSON = "application/json"
RETRIES = frozenset({409, 503})
"""Statuses that come with Retry-After."""


def check_accept(request: Request, *kinds: str) -> None:
    """Refuse a caller who takes none of these media types (JSON if none is named)."""
    given = request.headers.get("accept", "*/*")
    if given == "*/*" or given == JSON:
        return
    wanted = {kind.strip() for part in given.lower().split(",") if (kind := _accepted(part))}
    for kind in kinds or (JSON,):
        if wanted & {"*/*", kind.split("/")[0] + "/*", kind}:
            return
    raise Problem("not_acceptable", "the answer is " + " or ".join(kinds or (JSON,)))


def _accepted(part: str) -> str | None:
    kind, _, parameters = part.partition(";")
    refused = parameters.replace(" ", "").rstrip("0").rstrip(".") == "q="
    return None if refused else kind


def answers(
    schema: str | None, *statuses: int, media: str = JSON, ok: int = 200
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its success and the problems that it may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    if schema is not None:
        found[ok] = {"description": "Done", "content": {media: {"schema": ref(schema)}}}
    for status in statuses:
        titles = dict.fromkeys(kind.title for kind in KINDS.values() if kind.status == status)
        found[status] = {
            "description": "; ".join(titles),
            "content": {PROBLEM: {"schema": ref("Problem")}},
        }
        if status in RETRIES:
            found[status]["headers"] = {
                "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}
            }
    return found


def body(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    """A request body of JSON."""
    content = {JSON: {"schema": ref(schema), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def predict_description(manifest: Manifest) -> str:
    return (
        f"{manifest.title}.\n\nCategories may be sent as codes or as words. Leave out, or send "
        "`null` for, what is not known; nothing is ever filled in. A value outside the accepted "
        "range is refused; one outside the range that the model has seen is scored with a warning."
        f"\n\n{manifest.notice}"
    )


def examples(manifest: Manifest) -> dict[str, Any]:
    """Three patients of the manifest: the first, the likeliest ill, and the least known."""
    golden = list(manifest.golden)

    def known(case: Golden) -> int:
        return sum(value is not None for value in case.record.values())

    chosen = {
        "A patient with every field": max(golden, key=known),
        "A patient at high risk": max(golden, key=lambda case: case.probability),
        "A patient of whom little is known": min(golden, key=known),
    }
    return {
        name.lower().replace(" ", "_"): {"summary": name, "value": _plain(case)}
        for name, case in chosen.items()
    }


def many_examples(manifest: Manifest) -> dict[str, Any]:
    records = [example["value"] for example in examples(manifest).values()]
    return {"three": {"summary": "Three patients", "value": records}}


def _plain(case: Golden) -> dict[str, Any]:
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in case.record.items()
        if value is not None
    }


def build(app: FastAPI, manifest: Manifest, settings: ApiSettings) -> bytes:
    """The whole document."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["schemas"] = _schemas(manifest, settings)
    if settings.keys:
        key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        components["securitySchemes"] = {"key": key}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if _is_open(path) else [{"key": []}]
    for operations in document["paths"].values():
        for operation in operations.values():
            _drop_framework_errors(operation)
    return json.dumps(document, ensure_ascii=False).encode()


def _is_open(path: str) -> bool:
    from api.door import PROBES

    return path in PROBES


def _drop_framework_errors(operation: dict[str, Any]) -> None:
    """FastAPI documents its own form of 422 where a route says nothing of it."""
    found = operation["responses"].get("422", {})
    if JSON in found.get("content", {}) and "HTTPValidationError" in json.dumps(found):
        found["content"].pop(JSON)
        found["content"][PROBLEM] = {"schema": ref("Problem")}


def _schemas(manifest: Manifest, settings: ApiSettings) -> dict[str, Any]:
    fields = manifest.fields.fields
    record = {
        "title": "Record",
        "description": manifest.notice,
        "type": "object",
        "properties": {RECORD_ID: _ID} | {field.name: _field(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }
    scores = {
        RECORD_ID: {"type": ["string", "null"]},
        "probability": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": f"{manifest.title}. {manifest.notice}",
        },
        "prediction": {
            "enum": [0, 1],
            "description": f"1 where the probability is {manifest.threshold:g} or more",
        },
        "model_version": {"type": "string"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    }
    explanation = _object(
        {
            "unit": {"const": "log-odds"},
            "intercept": {"type": "number"},
            "contributions": _object({n: {"type": "number"} for n in manifest.fields.used_names}),
        }
    )
    row = {"row": {"type": "integer", "minimum": 1}}
    faults = {"type": "array", "items": ref("Fault")}
    count = {"type": "integer", "minimum": 0}
    rejected = row | {RECORD_ID: {"type": ["string", "null"]}, "errors": faults}
    return {
        "Record": record,
        "Records": {"type": "array", "items": {}, "maxItems": settings.request_rows}
        | {"description": "Records; one that is no `Record` is rejected in its own result"},
        "Score": _object(scores | {"explanation": explanation}, optional=("explanation",)),
        "Scores": _object(
            {
                "rows": _object({"total": count, "scored": count, "rejected": count}),
                "results": {
                    "type": "array",
                    "items": {"anyOf": [_object(row | scores), _object(rejected)]},
                },
            }
        ),
        "Model": {"type": "object", "required": ["name", "version", "fields", "sha256"]},
        "Problem": _problem(),
        "Fault": _fault(),
    }


_ID = {
    "anyOf": [
        {
            "type": "string",
            "maxLength": RECORD_ID_LENGTH,
            "pattern": r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]*$",
        },
        {"type": "integer"},
        {"type": "null"},
    ],
    "description": "Your own id of the record; it comes back with the score",
}


def _field(field: Field) -> dict[str, Any]:
    schema = field.json_schema
    if "anyOf" not in schema:
        return schema
    # The texts that mean "not known" are accepted like null.
    missing = {"enum": [text.upper() if text != "nan" else "NaN" for text in sorted(MISSING)]}
    return schema | {"anyOf": [*schema["anyOf"], missing]}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _fault() -> dict[str, Any]:
    text = {"type": "string"}
    return _object(
        {
            "pointer": text | {"description": "JSON pointer to what is wrong"},
            "code": text | {"examples": list(CODES)},
            "detail": text,
            "field": text,
            "limit": text,
            "unit": text,
            "hint": text,
        },
        optional=("field", "limit", "unit", "hint"),
    )


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    return _object(
        {
            "type": text | {"format": "uri-reference"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": text | {"description": "The request id, also in X-Request-ID"},
            "code": {"enum": list(KINDS)},
            "error": text | {"description": "Title and detail, for clients that read only this"},
            "errors": {"type": "array", "items": ref("Fault")},
        }
    )
