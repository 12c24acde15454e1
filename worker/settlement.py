"""What becomes of a message: the worker's whole failure policy, as one pure function."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import (
    BadInput,
    InputChanged,
    InputMissing,
    Interrupted,
    ModelBroken,
    OwnershipLost,
    StorageUnavailable,
)

GIVE_UP_AFTER = 5
"""Deliveries begun without an end, an excuse or progress."""
MISSING_LIMIT = 30 * 60
"""Seconds that a named blob may take to appear."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the policy looks at."""

    dequeue_count: int
    age: float
    """Seconds since the message was sent."""
    from_event: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """The batch has its summary: the message ends."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The batch ends as failed; then the message ends, with a poison copy unless told not to."""

    reason: str
    poison: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """The message goes back to the queue, to be seen again after `delay` seconds."""

    delay: float
    excused: bool = False
    """This delivery does not count against the message."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The message belongs to another worker: nothing more is started, nothing deleted."""


Settlement = Delete | Fail | Release | Leave


def settle(delivery: Delivery, error: Exception | None) -> Settlement:
    """Say what becomes of a message after this delivery ended, with or without an error."""
    match error:
        case None:
            return Delete()
        case OwnershipLost():
            return Leave()
        case InputChanged() if delivery.from_event:
            # The newer version has an event of its own.
            return Fail("superseded", poison=False)
        case BadInput():
            return Fail(error.reason)
        case InputMissing() if delivery.age > MISSING_LIMIT:
            return Fail("input missing")
        case InputMissing():
            return Release(backoff(delivery), excused=True)
        case StorageUnavailable():
            return Release(max(backoff(delivery), error.retry_after or 0), excused=True)
        case Interrupted() | ModelBroken():
            return Release(0, excused=True)
        case _:
            return Release(backoff(delivery))


def backoff(delivery: Delivery) -> float:
    """10 s after the first delivery, doubling up to 10 min."""
    return float(min(10 * 2 ** min(delivery.dequeue_count - 1, 10), 600))
