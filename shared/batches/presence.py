"""Presence of workers, and messages that wait to be retried: small blobs that workers overwrite.

No promise depends on them: they show people what a queue does not. A worker that was killed cannot
delete its record, so a worker counts as gone when its record has not been renewed for a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.records.errors import NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Notes

WORKERS = "workers"
"""Container of these records."""
RENEW_SECONDS = 30
GONE_SECONDS = 3 * RENEW_SECONDS + 10
"""Age of a record from which its worker counts as gone."""
KEPT = timedelta(days=1)
"""Records of workers that are gone, and of retries, are deleted after this time."""
_PRESENCE, _RETRY = "presence/", "retry/"


@dataclass(frozen=True, slots=True)
class Presence:
    """A worker's description of itself."""

    worker: str
    model: str
    """Version of the model."""
    version: str
    """Version of the product."""
    slots: int
    in_use: int
    """Slots that work on a message."""
    started: str
    last_outcome: Mapping[str, str] | None = None
    """`batch_id`, `status` and `time` of the last batch it finished."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker's record, and when storage last received it."""

    presence: Presence
    seen: datetime

    def is_gone(self, now: datetime) -> bool:
        return (now - self.seen).total_seconds() > GONE_SECONDS


@dataclass(frozen=True, slots=True)
class Retry:
    """A message that was released with a delay: nobody can see it until then."""

    batch_id: str
    reason: str
    since: str
    """Time at which the message was sent."""
    next_attempt: str
    deliveries: int

    @property
    def is_over(self) -> bool:
        """Whether the next attempt should have begun."""
        return datetime.fromisoformat(self.next_attempt) < datetime.now(UTC)


async def write_presence(notes: Notes, presence: Presence) -> None:
    """Renew a worker's record."""
    await _write(notes, f"{_PRESENCE}{presence.worker}.json", asdict(presence))


async def delete_presence(notes: Notes, worker: str) -> None:
    """Delete the record of a worker that ends."""
    with suppress(NotFound):
        await notes.remove(WORKERS, f"{_PRESENCE}{worker}.json")


async def read_workers(notes: Notes) -> list[SeenWorker]:
    """All records, the latest first. Empty if no worker was ever here."""
    found: list[SeenWorker] = []
    with suppress(NotFound):
        for listed in await notes.listing(WORKERS, _PRESENCE):
            with suppress(NotFound):  # deleted since it was listed
                presence = Presence(**json.loads(await notes.read(WORKERS, listed.name)))
                found.append(SeenWorker(presence, listed.modified))
    return sorted(found, key=lambda worker: worker.seen, reverse=True)


async def write_retry(notes: Notes, retry: Retry) -> None:
    """Note when a message will be tried again."""
    await _write(notes, _retry_name(retry.batch_id), asdict(retry))


async def read_retry(notes: Notes, batch_id: str) -> Retry | None:
    """The note of a batch whose message is being retried."""
    with suppress(NotFound):
        return Retry(**json.loads(await notes.read(WORKERS, _retry_name(batch_id))))
    return None


async def delete_retry(notes: Notes, batch_id: str) -> None:
    """Delete the note of a batch that has its outcome."""
    with suppress(NotFound):
        await notes.remove(WORKERS, _retry_name(batch_id))


async def read_retries(notes: Notes) -> list[Retry]:
    """All notes of retries, the next one first."""
    found: list[Retry] = []
    with suppress(NotFound):
        for listed in await notes.listing(WORKERS, _RETRY):
            with suppress(NotFound):
                found.append(Retry(**json.loads(await notes.read(WORKERS, listed.name))))
    return sorted(found, key=lambda retry: retry.next_attempt)


async def delete_old_records(notes: Notes) -> None:
    """Delete the records of workers that were killed, and forgotten notes."""
    oldest = datetime.now(UTC) - KEPT
    for listed in await notes.listing(WORKERS, ""):
        if listed.modified < oldest:
            with suppress(NotFound):
                await notes.remove(WORKERS, listed.name)


async def _write(notes: Notes, name: str, record: dict[str, Any]) -> None:
    await notes.overwrite(WORKERS, name, json.dumps(record).encode(), "application/json")


def _retry_name(batch_id: str) -> str:
    return f"{_RETRY}{batch_id}.json"
