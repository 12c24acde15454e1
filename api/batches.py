"""Batches over HTTP: a file in, its state while the worker works, the scores out.

An upload is staged block by block and never whole in memory. What an id stands for is bound by one
create-only blob before anything can be seen of the batch, and the answer 202 is given only when the
queue has its message. A batch's outcome is its summary and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from api import document
from api.body import check_length, too_large, too_slow
from api.door import TRACEPARENT
from api.problems import RETRY_AFTER, Fault, Problem, retry_after
from api.routes import JsonAnswer, check_accept, flag, flag_parameter, new_router
from api.store import SCORES, UPLOADS, Connection, Store
from shared.checkpoint import DataBlock
from shared.errors import AlreadyExists, BlocksGone, NotFound
from shared.message import BATCH_ID, Envelope, EnvelopeInput, EnvelopeOptions, Format
from shared.tables import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Receive, Scope, Send

    from shared.settings import ApiSettings

log = logging.getLogger(__name__)

BLOCK = 4 << 20
"""Bytes staged at once; each upload holds little more."""
ASK_AGAIN = 2
"""Seconds after which a batch's state may be new."""
GZIP = b"\x1f\x8b"

MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
}
# A structured-field string, or the same bare.
IDEMPOTENCY_KEY = re.compile(r'"[\x21\x23-\x7e]{1,255}"|[\x21\x23-\x7e]{1,255}')
SHOWN = (
    "reason",
    "rejections",
    "other_coding_suspected",
    "ignored_columns",
    "absent_fields",
    "model",
    "times",
    "replay_of",
)
"""What callers see of a summary, beside state and rows."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a batch id stands for: the file's content and what was asked of it."""

    sha256: str
    format: Format
    gzip: bool
    include_input: bool

    @property
    def as_json(self) -> bytes:
        return json.dumps(
            {
                "sha256": self.sha256,
                "format": self.format,
                "gzip": self.gzip,
                "include_input": self.include_input,
            }
        ).encode()


class Room:
    """Places for transfers; each holds a piece of a file."""

    def __init__(self, places: int) -> None:
        self._places = places

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place. Raises `Problem` at once when there is none."""
        if self._places == 0:
            raise Problem("overloaded", headers=retry_after(RETRY_AFTER))
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1


def router(store: Store, settings: ApiSettings) -> APIRouter:
    """`/batches` and what stands below it."""
    routes = new_router("Batches", prefix="/batches")
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
                document.idempotency_key(),
            ]
        },
    )
    async def submit(request: Request) -> JsonAnswer:
        check_accept(request)
        include_input = flag(request, "include_input")
        kind = _format(request)
        batch_id = _batch_id(request)
        check_length(request, settings.upload_bytes)
        with room.taken():
            connection = await store()
            sent = await _submit(
                request, connection, settings, batch_id, kind, include_input=include_input
            )
        log.info(
            "batch_queued",
            extra={
                "request_id": request.scope["request_id"],
                "batch_id": batch_id,
                "bytes": sent,
                "format": kind,
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
        openapi_extra={"parameters": [document.batch_id()]},
    )
    async def state(request: Request) -> JsonAnswer:
        check_accept(request)
        batch_id = _named(request)
        found = await _state(await store(), batch_id)
        waiting = found["status"] in ("queued", "running")
        return JsonAnswer(found, headers=retry_after(ASK_AGAIN) if waiting else {})

    @routes.get(
        "/{batch_id}/scores",
        summary="The scores of a batch that succeeded",
        responses=document.answers(None, 401, 404, 409, 500, 503)
        | document.file_answer("text/csv", "application/x-ndjson"),
        openapi_extra={"parameters": [document.batch_id()]},
    )
    async def scores(request: Request) -> StreamingResponse:
        batch_id = _named(request)
        connection = await store()
        summary = await _outcome(connection, batch_id)
        if summary is None:
            state = (await _state(connection, batch_id))["status"]
            raise Problem("not_finished", f"the batch is {state}", headers=retry_after(ASK_AGAIN))
        if summary["status"] == "failed":
            raise Problem("not_found", f"this batch failed and has no scores: {summary['reason']}")
        output = summary["output"]
        pieces = connection.blobs.chunks(output["container"], output["blob"], output["etag"])
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


class Download(StreamingResponse):
    """A file on its way out: takes a place, and ends when nobody reads it."""

    def __init__(
        self, pieces: AsyncIterator[bytes], *, room: Room, seconds: float, **options: Any
    ) -> None:
        super().__init__(pieces, **options)
        self._pieces = pieces
        self._room = room
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._room.taken():
            # Before the answer begins: what storage refuses now is still told as a problem.
            first = await anext(self._pieces, b"")
            self.body_iterator = _with(first, self._pieces)
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        await super().stream_response(in_time)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _format(request: Request) -> Format:
    """Format by Content-Type. Raises `Problem`."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = MEDIA_TYPES.get(given)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if kind is None or encoding not in ("identity", "gzip"):
        raise Problem(
            "unsupported_media_type",
            "Content-Type must be one of " + ", ".join(MEDIA_TYPES) + "; Content-Encoding may be "
            "gzip",
            headers={"Accept": ", ".join(MEDIA_TYPES), "Accept-Encoding": "gzip"},
        )
    return kind


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


async def _submit(
    request: Request,
    connection: Connection,
    settings: ApiSettings,
    batch_id: str,
    kind: Format,
    *,
    include_input: bool,
) -> int:
    """Upload, bind, commit, send. Returns the file's bytes. Raises `Problem`, `StorageError`."""
    blobs = connection.blobs
    packed = request.headers.get("content-encoding", "identity").lower() == "gzip"
    name = f"{batch_id}/input.{kind}{'.gz' if packed else ''}"
    # Two uploads under one key stage side by side and must not take each other's blocks.
    nonce = secrets.token_hex(16)
    blocks: list[str] = []
    digest = hashlib.sha256()
    size = 0
    async for block in _blocks(request, settings):
        if not blocks:
            _check_head(block, packed=packed)
        blocks.append(f"{nonce}{len(blocks):032d}")
        digest.update(block)
        size += len(block)
        await blobs.stage(UPLOADS, name, blocks[-1], block)
    if not blocks:
        raise Problem("malformed_body", "the body is empty")
    upload = Upload(digest.hexdigest(), kind, packed, include_input)
    await _bind(connection, batch_id, upload)
    try:
        facts = await blobs.commit(UPLOADS, name, blocks, "application/octet-stream", {})
    except (AlreadyExists, BlocksGone):
        facts = await blobs.facts(UPLOADS, name)
    envelope = Envelope(
        batch_id=batch_id,
        input=EnvelopeInput(container=UPLOADS, blob=name, etag=facts.etag, format=kind),
        options=EnvelopeOptions(include_input=include_input),
        traceparent=_traceparent(request),
    )
    # An earlier try with this key may have ended before its message was sent. A second message
    # of one batch changes nothing; none would lose it.
    if await _outcome(connection, batch_id) is None:
        await connection.queue.send(envelope.text())
    return size


async def _blocks(request: Request, settings: ApiSettings) -> AsyncIterator[bytes]:
    """The body in blocks of one size. Raises `Problem`."""
    pieces = bytearray()
    size = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(settings.body_seconds):
                message = await request.receive()
        except TimeoutError as error:
            raise too_slow(settings) from error
        if message["type"] == "http.disconnect":
            raise Problem("malformed_body", "the connection ended within the body")
        piece = message.get("body", b"")
        size += len(piece)
        if size > settings.upload_bytes:
            raise too_large(settings.upload_bytes)
        pieces += piece
        more = message.get("more_body", False)
        while len(pieces) >= BLOCK:
            yield bytes(pieces[:BLOCK])
            del pieces[:BLOCK]
    if pieces:
        yield bytes(pieces)


def _check_head(block: bytes, *, packed: bool) -> None:
    """Refuse at once what the worker could only refuse later. Raises `Problem`."""
    if packed and not block.startswith(GZIP):
        raise Problem("malformed_body", "Content-Encoding says gzip, and the body is not")
    if not packed and block.startswith(GZIP):
        raise Problem("malformed_body", "the body is gzip: send Content-Encoding: gzip with it")
    if block.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Problem("malformed_body", "the body is UTF-16, not UTF-8")


async def _bind(connection: Connection, batch_id: str, upload: Upload) -> None:
    """Bind the id to its content, once and for all. Raises `Problem` when it has other content."""
    try:
        await connection.blobs.create(
            UPLOADS, f"{batch_id}/request", upload.as_json, "application/json"
        )
    except AlreadyExists:
        standing = await connection.blobs.read(UPLOADS, f"{batch_id}/request")
        if standing != upload.as_json:
            raise Problem("idempotency_key_reused") from None


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given.encode("latin-1")) else None


async def _outcome(connection: Connection, batch_id: str) -> Mapping[str, Any] | None:
    try:
        content = await connection.blobs.read(SCORES, f"{batch_id}/summary.json")
    except NotFound:
        return None
    found: dict[str, Any] = json.loads(content)
    return found


async def _state(connection: Connection, batch_id: str) -> dict[str, Any]:
    """Where a batch stands. Raises `Problem` when nothing is known of it."""
    summary = await _outcome(connection, batch_id)
    if summary is not None:
        return {
            "batch_id": batch_id,
            "status": summary["status"],
            "rows": {name: summary["rows"][name] for name in ("total", "scored", "rejected")},
        } | {name: summary[name] for name in SHOWN if summary.get(name) is not None}
    known = await _is_known(connection, batch_id)
    rows = await _rows_done(connection, batch_id)
    if rows is None and not known:
        raise Problem("not_found", "there is no such batch")
    return {
        "batch_id": batch_id,
        "status": "queued" if rows is None else "running",
        "rows": rows or {"total": 0, "scored": 0, "rejected": 0},
    }


async def _is_known(connection: Connection, batch_id: str) -> bool:
    with suppress(NotFound):
        await connection.blobs.facts(UPLOADS, f"{batch_id}/request")
        return True
    return False


async def _rows_done(connection: Connection, batch_id: str) -> dict[str, int] | None:
    """Rows scored so far, by the staged blocks. None: the worker has not begun."""
    for suffix in ("csv", "jsonl"):
        staged = await connection.blobs.staged(SCORES, f"{batch_id}/scores.{suffix}")
        if not staged:
            # Committed, and the summary is about to follow.
            with suppress(NotFound):
                facts = await connection.blobs.facts(SCORES, f"{batch_id}/scores.{suffix}")
                return _rows(Counts.of(json.loads(facts.metadata["counts"])))
            continue
        # A new version of the worker begins anew beside the old one's blocks.
        plans: dict[str, dict[int, DataBlock]] = {}
        for entry in staged:
            if (block := DataBlock.parse(entry)) is not None:
                plans.setdefault(block.plan, {})[block.sequence] = block
        blocks = max(plans.values(), key=len, default={}).values()
        counts = Counts()
        for block in blocks:
            counts.add(block.counts)
        return _rows(counts)
    return None


def _rows(counts: Counts) -> dict[str, int]:
    scored = counts.rows - counts.rejected
    return {"total": counts.rows, "scored": scored, "rejected": counts.rejected}
