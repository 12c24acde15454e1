"""Replays: an entry of the poison queue as a new batch that names the old one.

The entry goes only after the queue has the new message. A replay that is repeated, whatever cut the
first one off, is the same batch.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cli.poison_queue import Entry, message_of, poison_queue
from shared.batches.results import INCOMING, UPLOADS, read_summary

if TYPE_CHECKING:
    from shared.batches.message import Batch, EnvelopeInput
    from shared.batches.ports import Account

LONGEST_ID = 55
"""Characters of a batch id that leave room for `.r2`; a longer one is cut and hashed."""


class NotReplayable(Exception):
    """An entry whose message no worker could read."""


async def replay_one(storage: Account, entry: Entry) -> str:
    """Send an entry's message as a new batch, remove the entry; say so. Raises `NotReplayable`."""
    from shared.batches.message import Envelope, EnvelopeOptions
    from shared.settings import StorageSettings, load_settings

    batch = await _read_batch(storage, entry)
    new_id, sent_before = await next_id(storage, entry.batch_id)
    if not sent_before:
        envelope = Envelope(
            batch_id=new_id,
            input=await _input(storage, batch, new_id),
            options=EnvelopeOptions(include_input=batch.include_input),
            replay_of=entry.batch_id,
            traceparent=batch.traceparent,
        )
        await storage.queue(load_settings(StorageSettings).queue).send(envelope.text())
    # Only now: a crash before this line leaves the entry, whose replay is the same batch again.
    await poison_queue(storage).delete(entry.message)
    return f"sent again {'before ' if sent_before else ''}as {new_id}"


async def next_id(storage: Account, batch_id: str) -> tuple[str, bool]:
    """`{id}.r2`, of which the next is `.r3`, and whether it is a replay of this batch already.

    A worker may send an entry twice, and a command may die between sending and removing: the
    second replay of one batch is the first one.
    """
    base, number = _base(batch_id)
    while True:
        number += 1
        name = f"{base}.r{number}"
        summary = await read_summary(storage.blobs(), name)
        if summary is None or summary["replay_of"] == batch_id:
            return name, summary is not None


def _base(batch_id: str) -> tuple[str, int]:
    """An id without its `.r2`, and that number; one of its own where none can be behind it."""
    named = re.fullmatch(r"(.+)\.r([1-9][0-9]{0,3})", batch_id)
    base, number = (named[1], int(named[2])) if named else (batch_id, 1)
    if "~" in base or len(base) > LONGEST_ID:
        stem = base.partition("~")[0][:44].rstrip("._-")
        base = f"{stem}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"
    return base, number


async def _input(storage: Account, batch: Batch, new_id: str) -> EnvelopeInput:
    """The blob that the new batch reads; records that came inside the message are put into one."""
    from shared.batches.message import BlobInput, EnvelopeInput
    from shared.records.errors import AlreadyExists
    from shared.records.strict_json import DuplicateKeys

    source = batch.input
    if isinstance(source, BlobInput):
        # No etag: what stands there now is meant, it may have been mended.
        return EnvelopeInput(container=source.container, blob=source.blob, format=source.format)
    if any(isinstance(item, DuplicateKeys) for item in source.items or ()):
        raise NotReplayable("cannot be replayed: a key stands twice in a record")
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
        raise NotReplayable("cannot be replayed: an event that is none of ours")
    return batch
