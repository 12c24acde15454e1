"""Submit a file as a batch: upload it, bind it to its id, commit it, send the message.

One create-only blob binds the id to its content and options before anything of the batch can be
seen, and the queue has the message before the caller hears of success. An attempt that broke off
anywhere is completed by the next one under the same id.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.batches.message import Envelope, EnvelopeInput, EnvelopeOptions
from shared.batches.results import UPLOADS, read_claim, read_summary, same_identity
from shared.files.base import recognised
from shared.files.formats import FORMATS, Format, output_format
from shared.files.options import Options, OutputFormat
from shared.records.errors import AlreadyExists, BadFile, BatchIdUsed, BlocksGone, NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Blobs, Queue

BLOCK = 4 << 20
"""Bytes of one upload request."""
GZIP = b"\x1f\x8b"
"""The first bytes of every gzip file."""


@dataclass(frozen=True, slots=True)
class Submission:
    """How to read the file, and the options of its result."""

    format: Format
    gzip: bool
    options: Options = field(default_factory=Options)

    @property
    def identity(self) -> dict[str, object]:
        """Facts that a batch id is bound to, in addition to the content."""
        return {"format": self.format, "gzip": self.gzip, **self.options.identity}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A file whose message is in the queue."""

    size: int
    """Bytes as they were sent."""
    identity: Mapping[str, object]
    """`input` of the batch's summary, if the batch is this one."""


async def submit(
    blobs: Blobs,
    queue: Queue,
    batch_id: str,
    submission: Submission,
    content: AsyncIterator[bytes],
    traceparent: str | None = None,
) -> Submitted:
    """Submit a file, given as blocks of at most a few MiB.

    Submitting the same file under the same id again is the same batch. Raises `BadFile` for content
    that the worker is certain to refuse, `BatchIdUsed` when the id belongs to another input or to
    other options, and `StorageError`.
    """
    name = _input_name(batch_id, submission.format, gzip=submission.gzip)
    # Two uploads under one id are staged side by side and must not take each other's blocks.
    nonce = secrets.token_hex(16)
    blocks: list[str] = []
    digest = hashlib.sha256()
    size = 0
    async for block in content:
        if not blocks:
            _check_head(block, submission)
        blocks.append(f"{nonce}{len(blocks):032d}")
        digest.update(block)
        size += len(block)
        await blobs.stage(UPLOADS, name, blocks[-1], block)
    if not blocks:
        raise BadFile("the file is empty")
    await _bind(blobs, batch_id, {"sha256": digest.hexdigest()} | submission.identity)
    try:
        facts = await blobs.commit(UPLOADS, name, blocks, "application/octet-stream", {})
    except (AlreadyExists, BlocksGone):  # the same file, uploaded before
        facts = await blobs.facts(UPLOADS, name)
    envelope = Envelope(
        batch_id=batch_id,
        input=EnvelopeInput(
            container=UPLOADS, blob=name, etag=facts.etag, format=submission.format
        ),
        options=EnvelopeOptions.of(submission.options),
        traceparent=traceparent,
    )
    identity = submission.options.identity | {
        "container": UPLOADS,
        "blob": name,
        "etag": facts.etag,
    }
    # Other senders choose ids, too, and leave no request here: compare with what they left.
    outcome = await read_summary(blobs, batch_id)
    existing = outcome or await read_claim(blobs, batch_id)
    if existing is not None and not same_identity(existing["identity"], identity):
        raise _used(batch_id)
    # An earlier attempt may have ended before its message was sent. A second message of one batch
    # changes nothing; none would lose it.
    if outcome is None:
        await queue.send(envelope.text())
    return Submitted(size, identity)


def _used(batch_id: str) -> BatchIdUsed:
    return BatchIdUsed(f"batch {batch_id} is another input or has other options: choose another id")


@dataclass(frozen=True, slots=True)
class Upload:
    """A submitted file, by the request that bound its batch id."""

    blob: str
    packed: bool
    """Whether its size says nothing about the worker's progress."""
    scores_format: OutputFormat


async def read_upload(blobs: Blobs, batch_id: str) -> Upload | None:
    """The file of a batch. None: the batch was not submitted by `submit`."""
    try:
        request = json.loads(await blobs.read(UPLOADS, f"{batch_id}/request"))
    except NotFound:
        return None
    gzip = bool(request["gzip"])
    kind = request["format"]
    return Upload(
        _input_name(batch_id, kind, gzip=gzip),
        gzip or FORMATS[kind].packed,
        output_format(kind, Options.of_identity(request)),
    )


def _input_name(batch_id: str, file_format: str, *, gzip: bool) -> str:
    return f"{batch_id}/input.{file_format}{'.gz' if gzip else ''}"


def _check_head(block: bytes, submission: Submission) -> None:
    expected = FORMATS[submission.format].first_bytes
    if expected:
        if submission.gzip:
            raise BadFile(f"{submission.format} is packed already: send it without gzip")
        if not block.startswith(expected):
            kind = recognised(block)
            raise BadFile(f"the file is not {submission.format}" + (f" but {kind}" if kind else ""))
        return
    if submission.gzip and not block.startswith(GZIP):
        raise BadFile("the file was announced as gzip and is not: send it as it is, or packed")
    if not submission.gzip and block.startswith(GZIP):
        raise BadFile(
            "the file is gzip: name it .gz, or send it with the header Content-Encoding: gzip"
        )
    kind = None if submission.gzip else recognised(block)
    if kind is not None:
        raise BadFile(f"the file is {kind}")


async def _bind(blobs: Blobs, batch_id: str, request: dict[str, object]) -> None:
    name, content = f"{batch_id}/request", json.dumps(request).encode()
    try:
        await blobs.create(UPLOADS, name, content, "application/json")
    except AlreadyExists:
        if await blobs.read(UPLOADS, name) != content:
            raise _used(batch_id) from None
