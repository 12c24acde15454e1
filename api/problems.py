"""Problems (RFC 9457): the answers to requests that fail.

Every problem is in `KINDS`; the page that the `type` of a problem points to (`api.routes.pages`) is
made from it. A problem names fields, limits and positions, never a value of the request.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from api.links import route_path, url_of
from shared import metrics
from shared.records.errors import (
    CODES,
    AnotherCoding,
    BadFile,
    BatchIdUsed,
    FieldError,
    RecordRejected,
    StorageError,
    StorageUnavailable,
)
from shared.records.scoring import ModelFault

log = logging.getLogger(__name__)

JSON = "application/json"
PROBLEM = "application/problem+json"
PROBLEMS = "/problems"
"""The page that explains all of them."""

RETRY_AFTER = 2
"""Seconds after which a request that was refused for lack of capacity may be tried again."""
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
    "precondition_failed",
    "range_not_satisfiable",
    "no_scores",
    "already_finished",
    "not_cancellable",
    "body_too_slow",
    "not_finished",
    "body_too_large",
    "too_many_rows",
    "unsupported_media_type",
    "record_rejected",
    "another_coding",
    "bad_parameter",
    "invalid_request",
    "idempotency_key_reused",
    "not_explained",
    "internal_error",
    "model_error",
    "overloaded",
    "storage_unavailable",
]


class Kind(NamedTuple):
    """A kind of problem."""

    status: int
    title: str
    remedy: str


KINDS: dict[Code, Kind] = {
    "bad_request": Kind(400, "Bad request", "See the detail."),
    "malformed_json": Kind(400, "The body is not JSON", "The detail says where."),
    "malformed_body": Kind(
        400,
        "The body does not match its headers",
        "Check Content-Length, Content-Encoding and that the body is complete.",
    ),
    "malformed_tensor": Kind(
        400, "The tensors do not match the model's inputs", "See the metadata under /v2/models."
    ),
    "not_authorised": Kind(
        401, "An API key is required", "Send a key from the operator in the header X-API-Key."
    ),
    "not_found": Kind(404, "Not found", "The paths are listed in /docs."),
    "method_not_allowed": Kind(405, "Method not allowed", "The header Allow lists the methods."),
    "not_acceptable": Kind(
        406,
        "The response is not available in an accepted media type",
        "Add it to the header Accept.",
    ),
    "body_too_slow": Kind(
        408, "The body arrived too slowly", "Send it again over a faster connection."
    ),
    "not_finished": Kind(
        409, "The batch is not finished", "Ask again after the number of seconds in Retry-After."
    ),
    "already_finished": Kind(
        409, "The batch is finished", "GET /batches/{batch_id} has its outcome."
    ),
    "not_cancellable": Kind(
        409,
        "The batch cannot be cancelled",
        "Only batches that the API or the command line submitted can be cancelled.",
    ),
    "no_scores": Kind(
        409, "The batch has no scores", "`detail` says why; GET /batches/{batch_id} has more."
    ),
    "precondition_failed": Kind(
        412, "The scores do not match If-Match", "Leave out If-Match, or send the current ETag."
    ),
    "range_not_satisfiable": Kind(
        416, "The range is outside the scores", "Content-Range has the number of bytes."
    ),
    "body_too_large": Kind(
        413, "The body is too large", "Send less at once, or many records through POST /batches."
    ),
    "too_many_rows": Kind(
        422, "Too many records at once", "Split them, or send them through POST /batches."
    ),
    "unsupported_media_type": Kind(
        415, "Unsupported media type", "Set Content-Type and Content-Encoding."
    ),
    "record_rejected": Kind(
        422, "The record has no score", "Fix the fields listed in `errors` and resend the record."
    ),
    "another_coding": Kind(
        422,
        "The records use another coding",
        "Recode all records, or send `coding_checked=true` if their codes are right.",
    ),
    "bad_parameter": Kind(422, "A parameter is invalid", "`errors` names it and its limits."),
    "invalid_request": Kind(
        422, "The request does not match its schema", "`errors` lists each fault."
    ),
    "idempotency_key_reused": Kind(
        422, "The Idempotency-Key belongs to another batch", "Use a new key for new content."
    ),
    "not_explained": Kind(
        422,
        "Explanations are not available for this model",
        "Leave out the parameter `explain`.",
    ),
    "internal_error": Kind(
        500, "Internal error", "Give the operator the request id in `instance`."
    ),
    "model_error": Kind(500, "The model failed", "Give the operator the request id in `instance`."),
    "overloaded": Kind(
        503, "Too many requests at once", "Try again after the number of seconds in Retry-After."
    ),
    "storage_unavailable": Kind(
        503,
        "Batches are temporarily unavailable",
        "Try again after the number of seconds in Retry-After; scoring single records still works.",
    ),
}


class ErrorEntry(BaseModel):
    """One fault of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pointer: str = Field(description="JSON pointer to the fault")
    code: str = Field(examples=list(CODES))
    detail: str
    field: str | None = None
    limit: str | None = None
    unit: str | None = None
    hint: str | None = None


class ProblemDetails(BaseModel):
    """Why a request failed (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(json_schema_extra={"format": "uri-reference"})
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request id, also in X-Request-ID")
    code: Code
    error: str = Field(description="Title and detail, for clients that read only this member")
    errors: list[ErrorEntry]


class Problem(HTTPException):
    """A request that ends with an error.

    An HTTPException, because FastAPI replaces other errors that occur while it reads a body.
    """

    def __init__(
        self,
        code: Code,
        detail: str = "",
        errors: Iterable[ErrorEntry] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(KINDS[code].status, detail, headers)
        self.code = code
        self.errors = list(errors)


def at(pointer: str, name: str | None = None) -> str:
    """A JSON pointer one step further (RFC 6901)."""
    return pointer if name is None else f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def entries_of(rejections: Iterable[FieldError], pointer: str = "") -> list[ErrorEntry]:
    """The faults of the record at `pointer`."""
    entries = []
    for rejection in rejections:
        detail = str(rejection).removeprefix(f"{rejection.code}: ")
        known = {name: getattr(rejection, name) for name in ("field", "limit", "unit", "hint")}
        entries.append(
            ErrorEntry(
                pointer=at(pointer, rejection.field),
                code=rejection.code,
                detail=detail,
                **{name: value for name, value in known.items() if value},
            )
        )
    return entries


def add_handlers(app: FastAPI) -> None:
    """Answer errors with problems; an HTTPException of added routes is left to FastAPI."""
    for error in (
        HTTPException,
        RequestValidationError,
        RecordRejected,
        BadFile,
        BatchIdUsed,
        StorageError,
        ModelFault,
    ):
        app.add_exception_handler(error, answer_error)
    app.add_exception_handler(FastAPIHTTPException, http_exception_handler)  # type: ignore[arg-type]


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error, which is logged here if it is not the caller's."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = {"Allow": ", ".join(allowed_methods(request))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        return respond(Problem("method_not_allowed", headers=allow), request)
    problem = problem_of(error)
    if isinstance(error, RecordRejected):
        metrics.count_rows("api", 0, {r.code: 1 for r in error.rejections}, 1)
    elif isinstance(error, StorageError):
        facts = {"request_id": request.state.request_id, "reason": error.reason}
        log.warning("storage_unavailable", extra=facts)
    elif problem.status_code == 500:
        log.error("request_failed", exc_info=error, extra={"request_id": request.state.request_id})
    return respond(problem, request)


def allowed_methods(request: Request) -> list[str]:
    """The methods of the path of a request."""
    path = getattr(request.scope.get("route"), "path", "")
    # Pages are not in the document; all of them are read by GET.
    operations = request.app.openapi()["paths"].get(path, ("get",))
    methods = sorted(method.upper() for method in operations)
    return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]


def problem_of(error: Exception) -> Problem:
    """Map an error to a problem: the API's whole error policy."""
    match error:
        case Problem():
            return error
        case RecordRejected():
            return Problem("record_rejected", errors=entries_of(error.rejections))
        case RequestValidationError():
            return _invalid(error)
        case StorageError():
            wanted = error.retry_after if isinstance(error, StorageUnavailable) else None
            seconds = math.ceil(wanted or STORAGE_RETRY_AFTER)
            return Problem("storage_unavailable", headers=retry_after(seconds))
        case AnotherCoding():
            return Problem("another_coding", error.reason)
        case BadFile():
            return Problem("malformed_body", error.reason)
        case BatchIdUsed():
            return Problem("idempotency_key_reused")
        case ModelFault():
            return Problem("model_error")
        case HTTPException(status_code=404):
            return Problem("not_found")
        case HTTPException(status_code=400):
            return Problem("bad_request")
        case _:
            return Problem("internal_error")


def _invalid(error: RequestValidationError) -> Problem:
    """The problem of a request that does not match the types of its route."""
    faults = error.errors()
    sources = {fault["loc"][0] for fault in faults}
    if "path" in sources:
        return Problem("not_found")
    entries = []
    for fault in faults:
        source, *path = map(str, fault["loc"])
        if source == "body":
            pointer = reduce(at, path, "")
            entries.append(ErrorEntry(pointer=pointer, code=fault["type"], detail=fault["msg"]))
        else:
            entries.append(bad_value(path[-1], _limit(fault)))
    return Problem("invalid_request" if "body" in sources else "bad_parameter", errors=entries)


def _limit(fault: dict[str, Any]) -> str:
    """The limit of a parameter in words, without its value."""
    if fault["type"] == "bool_parsing":
        return "true or false"
    return str(fault["msg"]).removeprefix("Input should be ")


def bad_parameter(name: str, limit: str) -> Problem:
    """The problem of a parameter that is not as `limit` says."""
    return Problem("bad_parameter", errors=[bad_value(name, limit)])


def overloaded() -> Problem:
    """The problem of a request for which there is no capacity."""
    return Problem("overloaded", headers=retry_after(RETRY_AFTER))


def bad_value(name: str, limit: str) -> ErrorEntry:
    """The entry of a parameter that is not as `limit` says."""
    detail = f"{name} must be {limit}"
    return ErrorEntry(pointer="", code="unknown_value", detail=detail, field=name, limit=limit)


def retry_after(seconds: int) -> dict[str, str]:
    """The header that says when to try again."""
    return {"Retry-After": str(seconds)}


def respond(problem: Problem, request: Request) -> Response:
    """The answer: one body everywhere; clients of `/v2` read `error` from plain JSON only."""
    body = details_of(problem, request.state.request_id, url_of(request, PROBLEMS))
    path = route_path(request.scope)
    plain = path == "/v2" or path.startswith("/v2/")
    return Response(
        body.model_dump_json(exclude_unset=True),
        body.status,
        problem.headers,
        JSON if plain else PROBLEM,
    )


def problem_of_parser(detail: str, public_url: str | None) -> bytes:
    """The body of an answer to a request that the server's parser refuses."""
    page = (public_url or "") + PROBLEMS
    return details_of(Problem("bad_request", detail), "", page).model_dump_json().encode()


def details_of(problem: Problem, request_id: str, page: str = PROBLEMS) -> ProblemDetails:
    """The body that describes a problem; `page` is the URL of the page of all problems."""
    kind = KINDS[problem.code]
    detail = problem.detail or "; ".join(e.detail for e in problem.errors[:5]) or kind.remedy
    return ProblemDetails(
        type=f"{page}#{problem.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request_id,
        code=problem.code,
        error=f"{kind.title}: {detail}",
        errors=problem.errors,
    )
