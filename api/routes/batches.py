"""Batches over HTTP: a file in, its state while the worker works, the scores out.

Uploads are submitted by `shared.batches.submission`; `shared.batches.status` knows their state.
"""

import asyncio
import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from api.body import (
    advice_on_forms,
    check_length,
    json_accepted,
    not_acceptable,
    too_large,
    too_slow,
)
from api.form import FORM, FormFile, malformed_form, open_form
from api.links import url_of
from api.openapi import RETRY_AFTER, problems, ref
from api.problems import JSON, Problem, bad_parameter, problem_of, retry_after
from api.schemas import (
    BatchAccepted,
    BatchBody,
    BatchListBody,
    CodingChecked,
    FileForm,
    QueueBody,
)
from api.scores import (
    first_bytes,
    is_unchanged,
    not_satisfiable,
    requested_range,
)
from api.store import Store, storage_time
from api.transfers import (
    Capacity,
    Download,
    in_blocks,
    in_storage_time,
    receive,
    while_waiting,
)
from shared import tracing
from shared.batches.cancellation import cancel
from shared.batches.message import BATCH_ID
from shared.batches.ports import Blobs, Queue
from shared.batches.report import POLICY, report_page
from shared.batches.results import read_profile
from shared.batches.status import BatchStatus, ListedBatch, Status, read_page, read_status
from shared.batches.submission import Submission, submit
from shared.files.dialect import EXCEL, ExcelFormat
from shared.files.formats import FORMATS, MEDIA_TYPES, NAMES, SUFFIXES, format_of
from shared.files.options import OUTPUT_FORMATS, SHEET_LENGTH, Options, OutputFormat, parse_rename
from shared.files.result import SELECTABLE, rejected_rows, rewritten
from shared.records.errors import NotFound, StorageError, StorageUnavailable
from shared.settings import ApiSettings
from shared.trace import TRACEPARENT

log = logging.getLogger(__name__)

POLL_SECONDS = 2
"""Seconds after which a batch's state may have changed."""
# A string of structured fields (RFC 8941) with its parameters, or a bare word.
QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)" *(?:;[ -~]*)?')
BARE_KEY = re.compile(r"[!#-~]{1,255}")

# A message whose batch id belongs to another input ends as `{batch id}~{message id}`.
BatchId = Annotated[str, Path(pattern=BATCH_ID.removesuffix("$") + "(~[A-Za-z0-9-]{1,64})?$")]
IncludeInput = Annotated[bool, Query(description="Repeat the input's columns in the result")]
Rename = Annotated[
    list[str], Query(description="NAME=FIELD: read the column or key NAME as FIELD; repeatable")
]
Text = {"schema": {"type": "string"}}
Bytes = {"schema": {"type": "string", "format": "binary"}}
FILES = {
    FORMATS[kind].media_types[0]: Bytes if FORMATS[kind].packed else Text for kind in OUTPUT_FORMATS
}


def router(store: Store, settings: ApiSettings, record: type[BaseModel]) -> APIRouter:
    """`/batches` and everything below it."""
    router = APIRouter(prefix="/batches", tags=["Batches"])
    capacity = Capacity(settings.transfers)
    # Requests that wait for storage leave room for those that need none.
    lookups = Capacity(max(1, settings.requests // 4))
    json_only = [Depends(json_accepted)]
    unavailable = problem_of(StorageUnavailable("storage does not answer"))

    @router.post(
        "",
        summary="Upload a file of records",
        description=(
            "CSV with a header line, a JSON array, or JSON lines, any of them with "
            "`Content-Encoding: gzip`; Parquet, or an Excel workbook. A form with one file is "
            "accepted, too; the file's name tells format and gzip. The worker scores the file; "
            "`Location` has the URL of the batch."
        ),
        status_code=202,
        dependencies=json_only,
        responses=problems(
            malformed_form("it has no file"),
            not_acceptable(),
            too_slow(settings.body_seconds),
            too_large(settings.upload_bytes),
            unknown_type(),
            bad_key(),
            "idempotency_key_reused",
            unavailable,
        )
        | {202: {"headers": {"Location": Text, "Operation-Location": Text} | RETRY_AFTER}},
        openapi_extra=_file_body(record),
    )
    async def submit_batch(
        request: Request,
        response: Response,
        include_input: IncludeInput = False,
        rename: Rename = [],  # noqa: B006  # FastAPI copies defaults
        coding_checked: CodingChecked = False,
        sheet: Annotated[
            str | None,
            Query(max_length=SHEET_LENGTH, description="Sheet of a workbook (default: the first)"),
        ] = None,
        output: Annotated[
            OutputFormat | None, Query(description="Format of the result (default: the file's)")
        ] = None,
        profile: Annotated[
            bool, Query(description="Make a profile of the batch even if it is small")
        ] = False,
        idempotency_key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                description="Repeated uploads with the same key are the same batch",
                json_schema_extra={"pattern": "^[!#-~]{1,255}$"},
            ),
        ] = None,
    ) -> BatchAccepted:
        options = Options(include_input, _mapping(rename), coding_checked, output, profile, sheet)
        media_type, packed = _body_type(request)
        batch_id = _batch_id(idempotency_key)
        check_length(request, settings.upload_bytes)
        pieces = receive(request, settings)
        with capacity.taken():
            if media_type == FORM:
                form = await open_form(request, pieces)
                submission, pieces = _form_submission(form, options), form.content
            else:
                submission = Submission(MEDIA_TYPES[media_type], packed, options)
            async with storage_time() as limit:
                connection = await store()
                facts = {"batch.id": batch_id}
                with tracing.span("submit batch", "producer", attributes=facts) as span:
                    submitted = await submit(
                        connection.blobs,
                        connection.queue,
                        batch_id,
                        submission,
                        while_waiting(in_blocks(pieces), limit),
                        span.traceparent or _traceparent(request),
                    )
                    span.set({"batch.bytes": submitted.size})
        log.info(
            "batch_queued",
            extra={
                "request_id": request.state.request_id,
                "batch_id": batch_id,
                "bytes": submitted.size,
                "format": submission.format,
            },
        )
        url = url_of(request, f"/batches/{batch_id}")
        response.headers.update(
            {"Location": url, "Operation-Location": url} | retry_after(POLL_SECONDS)
        )
        return BatchAccepted(batch_id=batch_id, status="queued", status_url=url)

    @router.get(
        "",
        summary="List batches, newest first",
        description="With `status`, a page may have fewer than `limit`; go on with `cursor`.",
        dependencies=json_only,
        responses=problems(not_acceptable(), bad_cursor(), unavailable),
        response_model_exclude_unset=True,
    )
    async def list_batches(
        status: Annotated[Status | None, Query(description="Only batches with this status")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(description="The cursor of the previous page")] = None,
    ) -> BatchListBody:
        after = _read_cursor(cursor) if cursor else None
        with lookups.taken():
            async with storage_time():
                connection = await store()
                page = await read_page(connection.blobs, limit, after, status)
                body = BatchListBody(batches=[BatchBody.of(batch) for batch in page.batches])
                if cursor is None and (waiting := await _waiting(connection.queue)) is not None:
                    body.queue = waiting
        if page.last is not None:
            body.cursor = _cursor(page.last)
        return body

    @router.get(
        "/{batch_id}",
        summary="The state of a batch",
        dependencies=json_only,
        responses=problems(no_batch(), not_acceptable(), unavailable),
        response_model_exclude_unset=True,
    )
    async def get_batch(batch_id: BatchId, response: Response) -> BatchBody:
        with lookups.taken():
            async with storage_time():
                found = await known((await store()).blobs, batch_id)
        if found.status in ("queued", "running"):
            response.headers.update(retry_after(POLL_SECONDS))
        return BatchBody.of(found)

    @router.delete(
        "/{batch_id}",
        summary="Cancel a batch",
        description=(
            "Ends a waiting or running batch; its worker stops between two blocks. "
            "A repeated request changes nothing."
        ),
        dependencies=json_only,
        responses=problems(
            no_batch(),
            not_acceptable(),
            already_finished("succeeded"),
            "not_cancellable",
            unavailable,
        ),
        response_model_exclude_unset=True,
    )
    async def cancel_batch(batch_id: BatchId) -> BatchBody:
        with lookups.taken():
            async with storage_time():
                blobs = (await store()).blobs
                found = await known(blobs, batch_id)
                if found.summary is None:
                    await _cancel(blobs, batch_id)
                    found = await known(blobs, batch_id)
        if found.status != "cancelled":
            raise already_finished(found.status)
        return BatchBody.of(found)

    @router.get(
        "/{batch_id}/scores",
        summary="The scores of a batch that succeeded",
        response_class=StreamingResponse,
        responses=problems(
            no_batch(),
            not_finished("queued"),
            no_scores("failed", "the file is empty"),
            "precondition_failed",
            not_satisfiable(1024),
            bad_parameter("only", "'rejected'"),
            unavailable,
        )
        | {
            200: {"description": "The file", "content": FILES},
            206: {"description": "The range of the file", "content": FILES},
            304: {"description": "The file has the ETag in If-None-Match"},
        },
    )
    async def get_scores(
        batch_id: BatchId,
        request: Request,
        only: Annotated[
            Literal["rejected"] | None, Query(description="Return only the rows without a score")
        ] = None,
        excel: Annotated[
            ExcelFormat | None,
            Query(
                alias="format",
                description="Form of CSV: for Excel in countries with a decimal comma (`excel`) "
                "or a decimal point (`excel-point`); default: that of the input file",
            ),
        ] = None,
    ) -> Response:
        with lookups.taken():
            async with storage_time():
                blobs = (await store()).blobs
                found = await known(blobs, batch_id)
        output = succeeded(found)["output"]
        return _scores(request, blobs, batch_id, output, rejected=only is not None, excel=excel)

    @router.get(
        "/{batch_id}/report",
        summary="A page about a batch that succeeded",
        description="A page without scripts about the rows, the scores, and how far they are "
        "from the training data.",
        response_class=HTMLResponse,
        responses=problems(
            no_batch(),
            not_finished("queued"),
            no_scores("failed", "the file is empty"),
            unavailable,
        ),
    )
    async def get_report(batch_id: BatchId) -> HTMLResponse:
        with lookups.taken():
            async with storage_time():
                blobs = (await store()).blobs
                found = await known(blobs, batch_id)
                summary = succeeded(found)
                profile = await read_profile(blobs, summary)
        content = await asyncio.to_thread(report_page, summary, profile)
        policy = f"{POLICY}; frame-ancestors 'none'"
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    def _scores(
        request: Request,
        blobs: Blobs,
        batch_id: str,
        output: Mapping[str, Any],
        *,
        rejected: bool,
        excel: ExcelFormat | None,
    ) -> Response:
        end = output["blob"].rpartition(".")[2]
        if rejected and end not in SELECTABLE:
            raise bad_parameter("only", f"left out for {end}")
        if excel and end != "csv":
            raise bad_parameter("format", f"left out for {end}")
        size, source = output["bytes"], (output["container"], output["blob"], output["etag"])
        form = ("-rejected" if rejected else "") + (f"-{excel}" if excel else "")
        etag = f'"{output["etag"]}{form}"'
        name = f"{batch_id}{'' if rejected else '-scores'}{form}.{end}"
        headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{name}"'}
        if is_unchanged(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        status = 200
        if form:
            pieces = in_storage_time(blobs.chunks(*source))
            if rejected:
                pieces = rejected_rows(pieces, is_csv=end == "csv")
            if excel:
                pieces = rewritten(pieces, EXCEL[excel])
        elif (wanted := requested_range(request, etag, size)) is not None:
            start, stop = wanted
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            headers["Content-Length"] = str(stop - start)
            pieces = first_bytes(in_storage_time(blobs.chunks(*source, start)), stop - start)
        else:
            headers |= {"Content-Length": str(size), "Accept-Ranges": "bytes"}
            pieces = in_storage_time(blobs.chunks(*source))
        media_type = FORMATS[SUFFIXES[f".{end}"]].content_type
        if request.state.head:
            return Response(status_code=status, headers=headers, media_type=media_type)
        return Download(
            pieces,
            status_code=status,
            headers=headers,
            media_type=media_type,
            capacity=capacity,
            seconds=settings.body_seconds,
        )

    return router


async def known(blobs: Blobs, batch_id: str) -> BatchStatus:
    """The state of a batch. Raises `Problem` when nothing is known of it."""
    found = await read_status(blobs, batch_id)
    if found is None:
        raise no_batch()
    return found


def succeeded(found: BatchStatus) -> dict[str, Any]:
    """The summary of a batch that succeeded. Raises `Problem`."""
    if found.summary is None:
        raise not_finished(found.status)
    if found.status != "succeeded":
        raise no_scores(found.status, found.summary["reason"])
    return found.summary


def no_batch() -> Problem:
    """The problem of an id that no batch has."""
    return Problem("not_found", "there is no such batch")


def not_finished(status: Status) -> Problem:
    """The problem of asking for scores too early."""
    return Problem("not_finished", f"the batch is {status}", headers=retry_after(POLL_SECONDS))


def no_scores(status: Status, reason: str) -> Problem:
    """The problem of asking for scores of a batch that ended without them."""
    return Problem("no_scores", f"the batch {status}: {reason}")


def already_finished(status: Status) -> Problem:
    """The problem of cancelling a batch too late."""
    return Problem("already_finished", f"the batch {status}")


def bad_cursor() -> Problem:
    """The problem of a cursor that no list had."""
    return bad_parameter("cursor", "a cursor from a list of batches")


async def _cancel(blobs: Blobs, batch_id: str) -> None:
    try:
        await cancel(blobs, batch_id)
    except NotFound as error:
        raise Problem("not_cancellable") from error


def _cursor(last: ListedBatch) -> str:
    text = f"{last.time.isoformat()} {last.batch_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises `Problem`."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        time, _, batch_id = text.partition(" ")
        return datetime.fromisoformat(time).astimezone(UTC), batch_id
    except ValueError as error:
        raise bad_cursor() from error


async def _waiting(queue: Queue) -> QueueBody | None:
    """The queue's length and age. None: on Azure the API may only send to it."""
    try:
        messages, visible = await queue.length(), await queue.peek(1)
    except StorageError:
        return None
    body = QueueBody(messages=messages)
    if visible:
        [oldest] = visible
        body.oldest_seconds = max(0.0, (oldest.received - oldest.inserted).total_seconds())
    return body


def _file_body(record: type[BaseModel]) -> dict[str, object]:
    """The request body of an upload, for the document."""
    # With the media type in the schema, too, Swagger UI offers a file picker.
    content: dict[str, object] = {
        kind: Bytes
        if FORMATS[file_format].packed
        else {"schema": {"type": "string", "minLength": 1, "contentMediaType": kind}}
        for kind, file_format in MEDIA_TYPES.items()
        if kind != JSON
    }
    content[FORM] = {"schema": ref(FileForm)}
    # In `allOf`, since openapi-python-client makes broken code of an array next to a form.
    content[JSON] = {"schema": {"allOf": [{"type": "array", "items": ref(record)}]}}
    return {"requestBody": {"required": True, "content": content}}


def _mapping(pairs: list[str]) -> dict[str, str]:
    """The renames of query parameters. Raises `Problem`."""
    try:
        return parse_rename(pairs)
    except ValueError as error:
        raise bad_parameter("rename", f"usable: {error}") from error


def _body_type(request: Request) -> tuple[str, bool]:
    """The body's media type, and whether it is gzip. Raises `Problem`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").lower().strip()
    packed = encoding == "gzip"
    if media_type == FORM:
        known = encoding == "identity"
    else:
        known = media_type in MEDIA_TYPES and (packed or encoding == "identity")
    if not known:
        raise unknown_type(advice_on_forms(media_type))
    return media_type, packed


def unknown_type(advice: str = "") -> Problem:
    """The problem of a file that is in no format that we read."""
    accepted = ", ".join([*MEDIA_TYPES, FORM])
    return Problem(
        "unsupported_media_type",
        f"Content-Type must be one of {accepted}; Content-Encoding may be gzip, but not that "
        f"of a form{advice}",
        headers={"Accept": accepted, "Accept-Encoding": "gzip"},
    )


def _form_submission(form: FormFile, options: Options) -> Submission:
    """A file's format by the type of its part, else by its name. Raises `Problem`."""
    by_name, packed = format_of(form.name)
    file_format = MEDIA_TYPES.get(form.media_type, by_name)
    if file_format is None:
        raise Problem(
            "unsupported_media_type",
            f"the file's name must end in {NAMES}",
        )
    return Submission(file_format, packed, options)


def _batch_id(key: str | None) -> str:
    """The same for each use of an Idempotency-Key, else a new one. Raises `Problem`."""
    if key is None:
        return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"
    quoted = QUOTED_KEY.fullmatch(key.strip())
    plain = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else key
    if not (quoted and 1 <= len(plain) <= 255) and not BARE_KEY.fullmatch(key):
        raise bad_key()
    return "key-" + hashlib.sha256(plain.encode()).hexdigest()[:32]


def bad_key() -> Problem:
    """The problem of an Idempotency-Key that is not a string or a word."""
    limit = "1 to 255 printable ASCII characters, in quotes if there are spaces"
    return bad_parameter("Idempotency-Key", limit)


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else None
