"""Batches over HTTP: a file in, its state while the worker works, the scores out.

Uploads are submitted by `shared.batches.submission`; `api.progress` shows the state of a batch.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import StreamingResponse

from api import document
from api.body import check_length
from api.problems import Fault, Problem, retry_after
from api.progress import state_of
from api.routes import JsonAnswer, Routes, check_accept, flag, flag_parameter
from api.transfers import Download, Room, receive_blocks
from shared.batches.message import BATCH_ID
from shared.batches.results import read_summary
from shared.batches.submission import Submission, submit
from shared.trace import TRACEPARENT

if TYPE_CHECKING:
    from api.store import Store
    from shared.files.formats import Format
    from shared.settings import ApiSettings

log = logging.getLogger(__name__)

ASK_AGAIN = 2
"""Seconds after which a batch's state may be new."""
MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
}
# A structured-field string, or the same bare.
IDEMPOTENCY_KEY = re.compile(r'"[\x21\x23-\x7e]{1,255}"|[\x21\x23-\x7e]{1,255}')

IDEMPOTENCY_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeats of an upload with the same key are the same batch, for ever",
    "schema": {"type": "string", "pattern": "^[!#-~]{1,255}$"},
}
BATCH_ID_PARAMETER = {
    "name": "batch_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": BATCH_ID},
}


def routes(store: Store, settings: ApiSettings) -> Routes:
    """`/batches` and what stands below it."""
    routes = Routes("Batches", "/batches")
    room = Room(settings.transfers)

    @routes.post(
        "",
        summary="Upload a file of records",
        description=(
            "CSV with a header line, a JSON array, or JSON lines; any of them with "
            "`Content-Encoding: gzip`. The worker scores it; ask for its state at `Location`."
        ),
        status_code=202,
        responses=document.answers(
            "Accepted", 400, 401, 406, 408, 413, 415, 422, 500, 503, ok=202, located=True
        ),
        openapi_extra=document.file_body(MEDIA_TYPES)
        | {
            "parameters": [
                flag_parameter("include_input", "Repeat the input's columns in the result"),
                IDEMPOTENCY_KEY_PARAMETER,
            ]
        },
    )
    async def upload(request: Request) -> JsonAnswer:
        check_accept(request)
        asked = _asked(request)
        batch_id = _batch_id(request)
        check_length(request, settings.upload_bytes)
        with room.taken():
            connection = await store()
            size = await submit(
                connection.blobs,
                connection.queue,
                batch_id,
                asked,
                receive_blocks(request, settings),
                _traceparent(request),
            )
        log.info(
            "batch_queued",
            extra={
                "request_id": request.scope["request_id"],
                "batch_id": batch_id,
                "bytes": size,
                "format": asked.format,
            },
        )
        place = f"/batches/{batch_id}"
        return JsonAnswer(
            {"batch_id": batch_id, "status": "queued", "status_url": place},
            202,
            {"Location": place, "Operation-Location": place} | retry_after(ASK_AGAIN),
        )

    @routes.get(
        "/{batch_id}",
        summary="The state of a batch",
        responses=document.answers("Batch", 401, 404, 406, 500, 503),
        openapi_extra={"parameters": [BATCH_ID_PARAMETER]},
    )
    async def state(request: Request) -> JsonAnswer:
        check_accept(request)
        batch_id = _named(request)
        found = await state_of((await store()).blobs, batch_id)
        waiting = found["status"] in ("queued", "running")
        return JsonAnswer(found, headers=retry_after(ASK_AGAIN) if waiting else {})

    @routes.get(
        "/{batch_id}/scores",
        summary="The scores of a batch that succeeded",
        responses=document.answers(None, 401, 404, 409, 500, 503)
        | document.file_answer("text/csv", "application/x-ndjson"),
        openapi_extra={"parameters": [BATCH_ID_PARAMETER]},
    )
    async def scores(request: Request) -> StreamingResponse:
        batch_id = _named(request)
        blobs = (await store()).blobs
        summary = await read_summary(blobs, batch_id)
        if summary is None:
            status = (await state_of(blobs, batch_id))["status"]
            raise Problem("not_finished", f"the batch is {status}", headers=retry_after(ASK_AGAIN))
        if summary["status"] == "failed":
            raise Problem("not_found", f"this batch failed and has no scores: {summary['reason']}")
        output = summary["output"]
        pieces = blobs.chunks(output["container"], output["blob"], output["etag"])
        csv = output["blob"].endswith(".csv")
        return Download(
            pieces,
            headers={
                "Content-Length": str(output["bytes"]),
                "Content-Disposition": (
                    f'attachment; filename="{batch_id}-scores.{"csv" if csv else "jsonl"}"'
                ),
                "ETag": f'"{output["etag"]}"',
            },
            media_type="text/csv" if csv else "application/x-ndjson",
            room=room,
            seconds=settings.body_seconds,
        )

    return routes


def _asked(request: Request) -> Submission:
    """What query and headers say of the file. Raises `Problem`."""
    include_input = flag(request, "include_input")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = MEDIA_TYPES.get(given)
    encoding = request.headers.get("content-encoding", "identity").lower().strip()
    if kind is None or encoding not in ("identity", "gzip"):
        raise Problem(
            "unsupported_media_type",
            "Content-Type must be one of " + ", ".join(MEDIA_TYPES) + "; Content-Encoding may be "
            "gzip",
            headers={"Accept": ", ".join(MEDIA_TYPES), "Accept-Encoding": "gzip"},
        )
    return Submission(kind, encoding == "gzip", include_input)


def _batch_id(request: Request) -> str:
    """The same for each use of an Idempotency-Key, else a new one. Raises `Problem`."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"
    if not IDEMPOTENCY_KEY.fullmatch(key):
        limit = "1 to 255 printable ASCII characters without spaces and quotes"
        fault = Fault("", "bad_parameter", f"it must be {limit}", "Idempotency-Key", limit)
        raise Problem("bad_parameter", faults=(fault,))
    return "key-" + hashlib.sha256(key.strip('"').encode()).hexdigest()[:32]


def _named(request: Request) -> str:
    """The batch id of the path. Raises `Problem`."""
    batch_id: str = request.path_params["batch_id"]
    if not re.fullmatch(BATCH_ID, batch_id):
        raise Problem("not_found", "there is no such batch")
    return batch_id


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else None
