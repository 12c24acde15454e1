"""The entries of the poison queue: read all of them, release those that nobody deleted.

A peek shows 32 messages at most, so entries are received: others cannot see them for a minute, and
they are released at the end. An interrupted command loses none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.output import say
from shared.batches.results import SCORES

if TYPE_CHECKING:
    from shared.batches.ports import Account, Message, Queue

HIDDEN = 60
"""Seconds for which entries are hidden from others while a command reads them."""
PAGE = 32
"""Most messages of one call."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the poison queue."""

    message: Message
    facts: dict[str, Any]

    @property
    def batch_id(self) -> str:
        return str(self.facts["batch_id"])

    @property
    def reason(self) -> str:
        return str(self.facts["reason"])

    @property
    def age_hours(self) -> float:
        return (datetime.now(UTC) - self.message.inserted).total_seconds() / 3600

    def shown(self) -> dict[str, Any]:
        """The facts that may be printed: never the body."""
        return {key: self.facts.get(key) for key in ("batch_id", "reason", "time", "deliveries")}


def _entry(message: Message) -> Entry:
    """An entry as the worker wrote it, or a message that somebody else put into the queue."""
    try:
        facts = json.loads(message.body)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and {"batch_id", "reason"} <= facts.keys():
        return Entry(message, facts)
    return Entry(
        message,
        {
            "batch_id": message.id,
            "reason": "not an entry of the worker",
            "time": message.inserted.isoformat(),
            "body": message.body,
        },
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries that a command works on."""

    ids: Collection[str] = ()
    reason: str | None = None
    older_than: float | None = None
    limit: int | None = None

    def of(self, found: Iterable[Entry]) -> list[Entry]:
        """The selected entries, oldest first."""
        return [
            entry
            for entry in sorted(found, key=lambda entry: entry.message.inserted)
            if (not self.ids or entry.batch_id in self.ids)
            and (self.reason is None or self.reason in entry.reason)
            and (self.older_than is None or entry.age_hours > self.older_than)
        ][: self.limit]


async def walk(queue: Queue) -> AsyncGenerator[Entry, None]:
    """Yield each entry once; release at the end those that the caller did not delete."""
    import asyncio

    from shared.records.errors import OwnershipLost

    taken: dict[str, Message] = {}

    async def release(message: Message) -> None:
        with suppress(OwnershipLost):  # deleted, or received by another command
            await queue.renew(message, 0)

    try:
        while page := await queue.receive(PAGE, HIDDEN):
            new = [message for message in page if message.id not in taken]
            taken |= {message.id: message for message in page}
            for message in new:
                yield _entry(message)
            if not new:  # the first ones are visible again: the walk took more than a minute
                break
    finally:
        messages = list(taken.values())
        for start in range(0, len(messages), PAGE):
            await asyncio.gather(*map(release, messages[start : start + PAGE]))


async def read_all(queue: Queue) -> list[Entry]:
    """All entries that no other command is reading."""
    async with aclosing(walk(queue)) as entries:
        found = [entry async for entry in entries]
    if (hidden := await queue.length() - len(found)) > 0:
        say(f"{hidden} more are being read by another command; they return within a minute")
    return found


async def message_of(storage: Account, entry: Entry) -> str:
    """The failed message: part of its entry, or in a blob that the entry names."""
    if "body_blob" in entry.facts:
        return (await storage.blobs().read(SCORES, str(entry.facts["body_blob"]))).decode()
    return str(entry.facts.get("body", ""))
