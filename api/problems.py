"""Problems (RFC 9457): what callers read when a request fails.

Every fault that the API can answer stands in `KINDS`; the page that the `type` of a problem points
to (`api.pages`) is made from it. A problem names fields, limits and places, never a value of the
request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from shared.records.errors import (
    BadFile,
    BatchIdUsed,
    FieldError,
    RecordRejected,
    StorageError,
    StorageUnavailable,
)
from shared.records.scoring import ModelFault

if TYPE_CHECKING:
    from starlette.types import Scope

JSON = "application/json"
PROBLEM = "application/problem+json"

RETRY_AFTER = 2
"""Seconds after which a caller may try again what was refused for want of room."""
STORAGE_RETRY_AFTER = 10
"""The same while storage does not answer, unless it says how long."""

Code = Literal[
    "bad_request",
    "malformed_json",
    "malformed_body",
    "malformed_tensor",
    "not_authorised",
    "not_found",
    "method_not_allowed",
    "not_acceptable",
    "body_too_slow",
    "not_finished",
    "body_too_large",
    "too_many_rows",
    "unsupported_media_type",
    "record_rejected",
    "bad_parameter",
    "idempotency_key_reused",
    "not_explained",
    "internal_error",
    "model_error",
    "overloaded",
    "storage_unavailable",
]


class Kind(NamedTuple):
    """One sort of problem."""

    status: int
    title: str
    remedy: str


KINDS: dict[Code, Kind] = {
    "bad_request": Kind(400, "The request is not understood", "See the detail."),
    "malformed_json": Kind(400, "The body is not JSON", "The detail names the place."),
    "malformed_body": Kind(
        400,
        "The body does not arrive as its headers say",
        "Check Content-Length, Content-Encoding and that the body is complete.",
    ),
    "malformed_tensor": Kind(
        400, "The tensors are not what the model takes", "See the metadata under /v2/models."
    ),
    "not_authorised": Kind(
        401, "A key is needed", "Send one of the operator's keys in the header X-API-Key."
    ),
    "not_found": Kind(404, "There is nothing here", "The paths are listed in /docs."),
    "method_not_allowed": Kind(405, "This path has other methods", "The header Allow names them."),
    "not_acceptable": Kind(
        406, "The answer has another media type", "Let the header Accept include it."
    ),
    "body_too_slow": Kind(408, "The body came too slowly", "Send it again over a better line."),
    "not_finished": Kind(
        409, "The batch is not finished", "Ask again after the seconds that Retry-After names."
    ),
    "body_too_large": Kind(
        413, "The body is too large", "Send less at once, or many records through POST /batches."
    ),
    "too_many_rows": Kind(
        422, "Too many records at once", "Split them, or send them through POST /batches."
    ),
    "unsupported_media_type": Kind(
        415, "The body has another media type", "Set Content-Type and Content-Encoding."
    ),
    "record_rejected": Kind(
        422, "The record has no score", "Mend every field that `errors` names and send it again."
    ),
    "bad_parameter": Kind(422, "A parameter is wrong", "`errors` names it and its limits."),
    "idempotency_key_reused": Kind(
        422, "The Idempotency-Key belongs to another batch", "Use a new key for new content."
    ),
    "not_explained": Kind(
        422, "This model explains nothing", "Ask without `explain`; the model has no such output."
    ),
    "internal_error": Kind(
        500, "Something failed here", "Give the operator the request id in `instance`."
    ),
    "model_error": Kind(
        500, "The model has no answer", "Give the operator the request id in `instance`."
    ),
    "overloaded": Kind(
        503, "Too many requests at once", "Try again after the seconds that Retry-After names."
    ),
    "storage_unavailable": Kind(
        503,
        "Batches cannot be taken or read now",
        "Try again after the seconds that Retry-After names; single records are scored meanwhile.",
    ),
}


class Fault(NamedTuple):
    """One entry of `errors`."""

    pointer: str
    code: str
    detail: str
    field: str | None = None
    limit: str | None = None
    unit: str | None = None
    hint: str | None = None


@dataclass(eq=False)
class Problem(Exception):
    """A request that ends with an error."""

    code: Code
    detail: str = ""
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return KINDS[self.code].status


def at(pointer: str, name: str | None = None) -> str:
    """A JSON pointer one step further (RFC 6901)."""
    return pointer if name is None else f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def faults_of(rejections: Iterable[FieldError], pointer: str = "") -> tuple[Fault, ...]:
    """The faults of a record that stands at `pointer`."""
    return tuple(
        Fault(
            at(pointer, rejection.field),
            rejection.code,
            str(rejection).removeprefix(f"{rejection.code}: "),
            rejection.field,
            rejection.limit or None,
            rejection.unit or None,
            rejection.hint or None,
        )
        for rejection in rejections
    )


def entry(fault: Fault) -> dict[str, str]:
    """A fault as it is sent, without what it leaves open."""
    return {key: value for key, value in fault._asdict().items() if value is not None}


def problem_of(error: Exception) -> Problem:
    """What a caller is told of an error: the whole of the API's error policy."""
    match error:
        case Problem():
            return error
        case RecordRejected():
            return Problem("record_rejected", faults=faults_of(error.rejections))
        case StorageError():
            asked = error.retry_after if isinstance(error, StorageUnavailable) else None
            seconds = math.ceil(asked or STORAGE_RETRY_AFTER)
            return Problem("storage_unavailable", headers=retry_after(seconds))
        case BadFile():
            return Problem("malformed_body", error.reason)
        case BatchIdUsed():
            return Problem("idempotency_key_reused")
        case ModelFault():
            return Problem("model_error")
        case HTTPException(status_code=404):
            return Problem("not_found")
        case HTTPException(status_code=405):
            return Problem("method_not_allowed", headers=error.headers or {})
        case HTTPException(status_code=400):
            return Problem("bad_request")
        case _:
            return Problem("internal_error")


def retry_after(seconds: int) -> dict[str, str]:
    """The header that says when to try again."""
    return {"Retry-After": str(seconds)}


def respond(problem: Problem, scope: Scope) -> Response:
    """The answer: one body everywhere; `/v2` clients read `error` only from plain JSON."""
    kind = KINDS[problem.code]
    detail = problem.detail or _summary(problem) or kind.remedy
    body: dict[str, Any] = {
        "type": f"/problems#{problem.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": scope.get("request_id", ""),
        "code": problem.code,
        "error": f"{kind.title}: {detail}",
        "errors": [entry(fault) for fault in problem.faults],
    }
    plain = scope["path"] == "/v2" or scope["path"].startswith("/v2/")
    return JSONResponse(body, kind.status, problem.headers, JSON if plain else PROBLEM)


def _summary(problem: Problem) -> str:
    return "; ".join(fault.detail for fault in problem.faults[:5])
