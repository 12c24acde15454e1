"""Decides what happens to a message: the worker's whole failure policy, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.records.errors import (
    BadInput,
    BatchIdUsed,
    InputChanged,
    InputMissing,
    InputUnreadable,
    Interrupted,
    ModelBroken,
    NotFound,
    OwnershipLost,
    StorageUnavailable,
)

GIVE_UP_AFTER = 5
"""Deliveries that began and ended without an excuse or progress."""
EXCLUSIVE_AFTER = 2
"""Such deliveries after which a message runs exclusively: it may kill the process."""
MISSING_LIMIT = 30 * 60
"""Seconds that a named blob may take to appear."""
LONGEST_DELAY = 600
PART_DELIVERIES = 2
"""Most deliveries of a part."""
PART_DELAY = 10
LAST_CALL = 75
"""Seconds that a message must be visible before its own expiry, for a worker to see it: more than
the longest wait between two polls of an empty queue (60 s, with jitter 72 s)."""


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """The facts that the policy needs."""

    dequeue_count: int = 1
    age: float = 0
    """Seconds since the message was sent."""
    life: float = float("inf")
    """Seconds until the message expires by itself."""
    from_event: bool = False
    read: bool = True
    """Whether the message's text was understood."""


@dataclass(frozen=True, slots=True)
class Delete:
    """The batch has its summary: the message ends."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The batch ends as failed; then the message ends, with a poison copy."""

    reason: str
    own_name: bool = False
    """The batch id is another input's: the outcome gets a name of its own."""


@dataclass(frozen=True, slots=True)
class Release:
    """The message goes back to the queue, to be seen again after `delay` seconds."""

    delay: float
    excused: bool = False
    """This delivery does not count against the message."""
    doubt: Literal["storage", "model"] | None = None
    """The check that must pass before more work is taken."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The message belongs to another worker: nothing more is started, nothing deleted."""


Settlement = Delete | Fail | Release | Leave


def settle(facts: DeliveryFacts, error: Exception | None) -> Settlement:
    """Decide what happens to a message after this delivery ended, with or without an error."""
    match error:
        case None:
            return Delete()
        case OwnershipLost():
            return Leave()
        case InputChanged() if facts.from_event:
            # An event means the current version: start again with that one.
            return _release(facts, backoff(facts), excused=True)
        case BatchIdUsed():
            return Fail(error.reason, own_name=True)
        case InputUnreadable():
            return Fail(f"input unreadable: {error.reason}")
        case BadInput():
            return Fail(error.reason)
        case InputMissing() if facts.age > MISSING_LIMIT:
            return Fail("input missing")
        case InputMissing():
            return _release(facts, backoff(facts), excused=True)
        case StorageUnavailable():
            delay = max(backoff(facts), min(error.retry_after or 0, LONGEST_DELAY))
            return _release(facts, delay, excused=True, doubt="storage")
        case NotFound():
            # A missing input blob raises InputMissing; this is the queue or a container.
            return _release(facts, backoff(facts), excused=True, doubt="storage")
        case ModelBroken():
            return _release(facts, 0, excused=True, doubt="model")
        case Interrupted():
            return _release(facts, 0, excused=True)
        case _ if not facts.read and facts.dequeue_count > GIVE_UP_AFTER:
            # Without a batch there are no markers, so each delivery counts.
            return Fail("gave up: reading the message fails each time")
        case _:
            return _release(facts, backoff(facts))


def settle_part(dequeue_count: int, error: Exception | None) -> Settlement:
    """Decide what happens to the message of a part.

    A part is a hint. When in doubt it is deleted: then the batch's own delivery scores these
    blocks, meets the same error, and decides.
    """
    match error:
        case OwnershipLost():
            return Leave()
        case ModelBroken():
            return Release(0, doubt="model")
        case Interrupted():
            return Release(0)
        case StorageUnavailable() if dequeue_count < PART_DELIVERIES:
            return Release(PART_DELAY, doubt="storage")
        case _:
            return Delete()


def backoff(facts: DeliveryFacts) -> float:
    """10 s after the first delivery, doubling up to 10 min."""
    return float(min(10 * 2 ** min(facts.dequeue_count - 1, 10), LONGEST_DELAY))


def _release(
    facts: DeliveryFacts,
    delay: float,
    *,
    excused: bool = False,
    doubt: Literal["storage", "model"] | None = None,
) -> Settlement:
    """Release, but never for longer than the message lives: that would lose it silently."""
    latest = facts.life - LAST_CALL
    if delay > 0 and latest <= 0:
        return Fail("expired: the message's own life ended before the batch could be worked on")
    return Release(min(delay, max(latest, 0)), excused, doubt)
