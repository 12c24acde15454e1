"""Replay an entry of the poison queue as a new batch that names the old one.

The entry is deleted only after the queue has the new message. A replay that was interrupted and is
repeated is the same batch.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cli.poison_queue import Entry, message_of
from cli.storage import poison_queue_of, queue_of
from shared.batches.results import INCOMING, UPLOADS, read_summary

if TYPE_CHECKING:
    from shared.batches.message import Batch, EnvelopeInput
    from shared.batches.ports import Account

LONGEST_ID = 55
"""Longest batch id that leaves room for `.r2` to `.r9999`; a longer one is cut and hashed."""


class NotReplayable(Exception):
    """The entry's message cannot be read, so no worker could score it."""


async def replay_one(storage: Account, entry: Entry) -> str:
    """Send the message as a new batch, delete the entry, and report. Raises `NotReplayable`."""
    from shared.batches.message import Envelope, EnvelopeOptions

    batch = await _read_batch(storage, entry)
    new_id, sent_before = await next_id(storage, entry.batch_id)
    if not sent_before:
        envelope = Envelope(
            batch_id=new_id,
            input=await _input(storage, batch, new_id),
            options=EnvelopeOptions.of(batch.options),
            replay_of=entry.batch_id,
            traceparent=batch.traceparent,
        )
        await queue_of(storage).send(envelope.text())
    # Send first: a crash between the two leaves the entry, and its replay is the same batch.
    await poison_queue_of(storage).delete(entry.message)
    return f"sent again {'before ' if sent_before else ''}as {new_id}"


async def next_id(storage: Account, batch_id: str) -> tuple[str, bool]:
    """The id of the next replay (`.r2`, `.r3` …), and whether this batch was sent as it already.

    A worker may write an entry twice, and a command may be killed after sending: a second replay of
    a batch is the first one.
    """
    base, number = _base(batch_id)
    while True:
        number += 1
        name = f"{base}.r{number}"
        summary = await read_summary(storage.blobs(), name)
        if summary is None or summary["replay_of"] == batch_id:
            return name, summary is not None


def _base(batch_id: str) -> tuple[str, int]:
    """An id without its `.r2`, and the number; an id too long for a suffix is cut and hashed."""
    named = re.fullmatch(r"(.+)\.r([1-9][0-9]{0,3})", batch_id)
    base, number = (named[1], int(named[2])) if named else (batch_id, 1)
    if "~" in base or len(base) > LONGEST_ID:
        stem = base.partition("~")[0][:44].rstrip("._-")
        base = f"{stem}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"
    return base, number


async def _input(storage: Account, batch: Batch, new_id: str) -> EnvelopeInput:
    """The blob that the new batch reads. Records inside a message are uploaded to one."""
    from shared.batches.message import BlobInput, EnvelopeInput
    from shared.records.errors import AlreadyExists
    from shared.records.strict_json import DuplicateKeys

    source = batch.input
    if isinstance(source, BlobInput):
        # No etag: the replay reads the current version, which may have been fixed.
        return EnvelopeInput(container=source.container, blob=source.blob, format=source.format)
    if any(isinstance(item, DuplicateKeys) for item in source.items or ()):
        raise NotReplayable("cannot be replayed: a record has a duplicate key")
    content = b"[%s]" % source.content if source.content.startswith(b"{") else source.content
    name = f"{new_id}/input.{source.format}"
    with suppress(AlreadyExists):  # an earlier replay of this entry was interrupted
        await storage.blobs().create(UPLOADS, name, content, "application/octet-stream")
    return EnvelopeInput(container=UPLOADS, blob=name, format=source.format)


async def _read_batch(storage: Account, entry: Entry) -> Batch:
    from shared.batches.message import Batch, UnreadableMessage, parse_message

    body = await message_of(storage, entry)
    try:
        batch = parse_message(body, entry.message.id, {INCOMING, UPLOADS})
    except UnreadableMessage as error:
        raise NotReplayable(f"cannot be replayed: {error.reason}") from error
    if not isinstance(batch, Batch):
        raise NotReplayable("cannot be replayed: the worker ignores this event")
    return batch
