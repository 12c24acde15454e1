"""How a file becomes a batch of the worker's: uploaded, bound to its id, committed, sent.

What an id stands for is bound by one create-only blob before anything can be seen of the batch, and
the queue has its message before the caller hears of success. A try that broke off anywhere is
mended by the next one under the same id.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from api.problems import Problem
from shared.batches.message import Envelope, EnvelopeInput, EnvelopeOptions
from shared.batches.results import UPLOADS, read_summary
from shared.records.errors import AlreadyExists, BlocksGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api.store import Connection
    from shared.batches.ports import Blobs
    from shared.files.formats import Format

GZIP = b"\x1f\x8b"
"""What each gzip file begins with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller says of a file, and asks of its result."""

    format: Format
    gzip: bool
    include_input: bool


async def submit(
    connection: Connection,
    batch_id: str,
    asked: Asked,
    content: AsyncIterator[bytes],
    traceparent: str | None,
) -> int:
    """Take a file as this batch. Returns its bytes. Raises `Problem`, `StorageError`."""
    blobs = connection.blobs
    name = f"{batch_id}/input.{asked.format}{'.gz' if asked.gzip else ''}"
    # Two uploads under one key stage side by side and must not take each other's blocks.
    nonce = secrets.token_hex(16)
    blocks: list[str] = []
    digest = hashlib.sha256()
    size = 0
    async for block in content:
        if not blocks:
            _check_head(block, packed=asked.gzip)
        blocks.append(f"{nonce}{len(blocks):032d}")
        digest.update(block)
        size += len(block)
        await blobs.stage(UPLOADS, name, blocks[-1], block)
    if not blocks:
        raise Problem("malformed_body", "the body is empty")
    await _bind(blobs, batch_id, {"sha256": digest.hexdigest()} | asdict(asked))
    try:
        facts = await blobs.commit(UPLOADS, name, blocks, "application/octet-stream", {})
    except (AlreadyExists, BlocksGone):
        facts = await blobs.facts(UPLOADS, name)
    envelope = Envelope(
        batch_id=batch_id,
        input=EnvelopeInput(container=UPLOADS, blob=name, etag=facts.etag, format=asked.format),
        options=EnvelopeOptions(include_input=asked.include_input),
        traceparent=traceparent,
    )
    # An earlier try with this key may have ended before its message was sent. A second message
    # of one batch changes nothing; none would lose it.
    if await read_summary(blobs, batch_id) is None:
        await connection.queue.send(envelope.text())
    return size


def _check_head(block: bytes, *, packed: bool) -> None:
    """Refuse at once what the worker could only refuse later. Raises `Problem`."""
    if packed and not block.startswith(GZIP):
        raise Problem("malformed_body", "Content-Encoding says gzip, and the body is not")
    if not packed and block.startswith(GZIP):
        raise Problem("malformed_body", "the body is gzip: send Content-Encoding: gzip with it")
    if block.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Problem("malformed_body", "the body is UTF-16, not UTF-8")


async def _bind(blobs: Blobs, batch_id: str, meaning: dict[str, object]) -> None:
    """Bind the id to what it stands for, once and for all. Raises `Problem` if that is another."""
    content = json.dumps(meaning).encode()
    try:
        await blobs.create(UPLOADS, f"{batch_id}/request", content, "application/json")
    except AlreadyExists:
        if await blobs.read(UPLOADS, f"{batch_id}/request") != content:
            raise Problem("idempotency_key_reused") from None
