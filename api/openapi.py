"""The OpenAPI document: the routes with schemas made from the manifest's field table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from api.document import ref
from api.door import PROBES
from api.problems import KINDS
from api.tensors import InferRequest
from shared.records.errors import CODES
from shared.records.schema import MISSING, RECORD_ID, RECORD_ID_LENGTH

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.records.artifact import Manifest
    from shared.records.schema import FieldSpec
    from shared.settings import ApiSettings


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
    components["schemas"] = _schemas(manifest, settings) | _infer_schemas()
    if settings.keys:
        key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        components["securitySchemes"] = {"key": key}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in PROBES else [{"key": []}]
    return json.dumps(document, ensure_ascii=False).encode()


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
    text = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    rows = _object({"total": count, "scored": count, "rejected": count})
    rejected = row | {RECORD_ID: {"type": ["string", "null"]}, "errors": faults}
    return {
        "Record": record,
        "Records": {"type": "array", "items": {}, "maxItems": settings.request_rows}
        | {"description": "Records; one that is no `Record` is rejected in its own result"},
        "Score": _object(scores | {"explanation": explanation}, optional=("explanation",)),
        "Scores": _object(
            {
                "rows": rows,
                "results": {
                    "type": "array",
                    "items": {"anyOf": [_object(row | scores), _object(rejected)]},
                },
            }
        ),
        "Model": {"type": "object", "required": ["name", "version", "fields", "sha256"]},
        "Any": {"type": "object"},
        "Accepted": _object({"batch_id": text, "status": {"const": "queued"}, "status_url": text}),
        "Batch": {
            "type": "object",
            "properties": {
                "batch_id": text,
                "status": {"enum": ["queued", "running", "succeeded", "failed"]},
                "rows": rows,
                "reason": text | {"description": "Why the batch failed"},
                "rejections": {"type": "object", "description": "Rejected rows by code"},
            },
            "required": ["batch_id", "status", "rows"],
        },
        "Problem": _problem(),
        "Fault": _fault(),
    }


def _infer_schemas() -> dict[str, Any]:
    schema = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    found: dict[str, Any] = schema.pop("$defs")
    return found | {"InferRequest": schema}


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


def _field(field: FieldSpec) -> dict[str, Any]:
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
