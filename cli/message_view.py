"""The batch and the input of a queue message, never a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.batches.results import INCOMING, UPLOADS

if TYPE_CHECKING:
    from shared.batches.ports import Blobs


@dataclass(frozen=True, slots=True)
class MessageView:
    """The parts of a message that may be printed."""

    batch_id: str | None
    container: str | None = None
    blob: str | None = None
    inline_bytes: int | None = None
    """Size of records inside the message."""
    reason: str | None = None
    """Why it is not a batch."""

    def __str__(self) -> str:
        if self.blob is not None:
            return f"{self.container}/{self.blob}"
        if self.inline_bytes is not None:
            return f"records inside the message ({self.inline_bytes:,} bytes)"
        return self.reason or ""


def view_message(body: str, message_id: str) -> MessageView:
    """Read a message as the worker would."""
    from shared.batches.message import BlobInput, Ignored, UnreadableMessage, parse_message

    try:
        batch = parse_message(body, message_id, {INCOMING, UPLOADS})
    except UnreadableMessage as error:
        return MessageView(error.batch_id, reason=error.reason)
    match batch:
        case Ignored(reason=reason):
            return MessageView(None, reason=f"ignored event ({reason})")
        case _ if isinstance(batch.input, BlobInput):
            return MessageView(batch.batch_id, batch.input.container, batch.input.blob)
        case _:
            return MessageView(batch.batch_id, inline_bytes=len(batch.input.content))


async def input_facts(blobs: Blobs, view: MessageView) -> dict[str, Any]:
    """Where the records are and how many bytes they have; `bytes` None: the blob is gone."""
    from shared.records.errors import NotFound

    if view.container is None or view.blob is None:
        return {"inline": True, "bytes": view.inline_bytes}
    try:
        size = (await blobs.facts(view.container, view.blob)).size
    except NotFound:
        size = None
    return {"container": view.container, "blob": view.blob, "bytes": size}
