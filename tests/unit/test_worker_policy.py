"""The worker's failure policy, as a table."""

from __future__ import annotations

import pytest

from shared.records.errors import (
    AlreadyExists,
    BadFile,
    BadMessage,
    BatchIdUsed,
    BlocksGone,
    GaveUp,
    InputChanged,
    InputMissing,
    InputUnreadable,
    Interrupted,
    ModelBroken,
    NotFound,
    OwnershipLost,
    StorageUnavailable,
)
from worker.policy import (
    Delete,
    DeliveryFacts,
    Fail,
    Leave,
    Release,
    Settlement,
    backoff,
    settle,
)

FIRST = DeliveryFacts()
EVENT = DeliveryFacts(from_event=True)

TABLE: list[tuple[str, DeliveryFacts, Exception | None, Settlement]] = [
    ("done", FIRST, None, Delete()),
    ("another worker has it", FIRST, OwnershipLost("gone"), Leave()),
    ("a bad message", FIRST, BadMessage("no schema"), Fail("no schema")),
    ("a bad file", FIRST, BadFile("no header"), Fail("no header")),
    ("gave up", DeliveryFacts(7), GaveUp("gave up at byte 9"), Fail("gave up at byte 9")),
    ("the id is taken", FIRST, BatchIdUsed("used"), Fail("used", own_name=True)),
    ("input changed", FIRST, InputChanged("input changed"), Fail("input changed")),
    ("replaced", EVENT, InputChanged("changed"), Release(10, excused=True)),
    (
        "archived",
        FIRST,
        InputUnreadable("409 BlobArchived"),
        Fail("input unreadable: 409 BlobArchived"),
    ),
    ("missing", FIRST, InputMissing("gone"), Release(10, excused=True)),
    ("missing, fourth time", DeliveryFacts(4), InputMissing("gone"), Release(80, excused=True)),
    (
        "missing for half an hour",
        DeliveryFacts(3, age=1801),
        InputMissing("gone"),
        Fail("input missing"),
    ),
    (
        "storage is down",
        FIRST,
        StorageUnavailable("503"),
        Release(10, excused=True, doubt="storage"),
    ),
    (
        "storage asks for time",
        FIRST,
        StorageUnavailable("503", retry_after=42),
        Release(42, excused=True, doubt="storage"),
    ),
    (
        "storage asks for too much time",
        FIRST,
        StorageUnavailable("503", retry_after=1e6),
        Release(600, excused=True, doubt="storage"),
    ),
    (
        "a container is gone",
        FIRST,
        NotFound("ContainerNotFound"),
        Release(10, excused=True, doubt="storage"),
    ),
    ("asked to stop", DeliveryFacts(9), Interrupted("stop"), Release(0, excused=True)),
    ("the model broke", FIRST, ModelBroken("no"), Release(0, excused=True, doubt="model")),
    ("a result vanished", FIRST, AlreadyExists("409"), Release(10)),
    ("blocks vanished", FIRST, BlocksGone("400"), Release(10)),
    ("a fault of ours", DeliveryFacts(2), KeyError("x"), Release(20)),
    (
        "a fault of ours in reading the message, again",
        DeliveryFacts(6, read=False),
        KeyError("x"),
        Fail("gave up: reading the message fails each time"),
    ),
    ("the same, not often", DeliveryFacts(5, read=False), KeyError("x"), Release(160)),
]


@pytest.mark.parametrize(
    ("facts", "error", "expected"),
    [case[1:] for case in TABLE],
    ids=[case[0] for case in TABLE],
)
def test_every_end_of_a_delivery_has_one_settlement(
    facts: DeliveryFacts, error: Exception | None, expected: Settlement
) -> None:
    assert settle(facts, error) == expected


def test_delays_double_up_to_ten_minutes() -> None:
    delays = [backoff(DeliveryFacts(count)) for count in range(1, 10)]

    assert delays == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert backoff(DeliveryFacts(10**6)) == 600


@pytest.mark.parametrize("life", [76.0, 90.0, 500.0])
def test_a_message_is_never_given_back_for_longer_than_it_lives(life: float) -> None:
    settlement = settle(DeliveryFacts(9, life=life), StorageUnavailable("503"))

    assert isinstance(settlement, Release)
    # Even the slowest worker polls once more before the message expires.
    assert 0 < settlement.delay < life - 72


@pytest.mark.parametrize("life", [-5.0, 0.0, 0.5, 30.0, 75.0])
def test_a_message_at_its_end_gets_an_outcome_instead(life: float) -> None:
    settlement = settle(DeliveryFacts(life=life), StorageUnavailable("503"))

    assert isinstance(settlement, Fail)


def test_a_stop_near_a_messages_end_still_gives_it_back() -> None:
    assert settle(DeliveryFacts(life=0.5), Interrupted("stop")) == Release(0, excused=True)
