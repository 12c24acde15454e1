"""The service's overview of queue, presence records and outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cli.doctor import BUSY, IDLE, NOBODY_WORKS, batches
from cli.output import duration
from cli.status import service_line
from shared.batches.overview import PEEK, Overview
from shared.batches.ports import Message
from shared.batches.presence import (
    GONE_SECONDS,
    KEPT,
    Presence,
    SeenWorker,
    delete_old_records,
    read_workers,
    write_presence,
)
from shared.testing import FakeBlobs

NOW = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
PRESENCE = Presence("w1", "1.0.0", "0.1.0", slots=4, in_use=0, started="2026-01-01T00:00:00Z")


def a_message(age: float) -> Message:
    return Message("id", "", "{}", 1, NOW - timedelta(seconds=age), NOW, NOW)


def a_worker(seen: float = 5, in_use: int = 0) -> SeenWorker:
    return SeenWorker(replace(PRESENCE, in_use=in_use), NOW - timedelta(seconds=seen))


def an_outcome(age: float) -> dict[str, object]:
    finished = (NOW - timedelta(seconds=age)).isoformat()
    return {"batch_id": "ward-7", "status": "succeeded", "times": {"finished": finished}}


def an_overview(*ages: float, workers: tuple[SeenWorker, ...] = (), length: int = 0) -> Overview:
    return Overview(NOW, tuple(map(a_message, ages)), length or len(ages), 0, (), workers)


@pytest.mark.parametrize(
    ("overview", "stalled"),
    [
        (an_overview(), False),
        (an_overview(299), False),
        (an_overview(301), True),
        (replace(an_overview(10, 301), last_outcome=an_outcome(302)), True),
        (replace(an_overview(10, 301), last_outcome=an_outcome(20)), False),
    ],
    ids=["empty", "fresh", "nothing ever", "nothing lately", "something lately"],
)
def test_old_messages_are_a_fault_only_if_nothing_finishes(
    overview: Overview, stalled: bool
) -> None:
    assert overview.is_stalled is stalled
    assert batches(overview).fine is not stalled


@pytest.mark.parametrize(
    ("workers", "fix"),
    [
        ((), NOBODY_WORKS),
        ((a_worker(seen=GONE_SECONDS + 1, in_use=4),), NOBODY_WORKS),
        ((a_worker(),), IDLE),
        ((a_worker(in_use=4),), BUSY),
    ],
    ids=["none", "gone", "idle", "busy"],
)
def test_the_fix_depends_on_which_workers_were_seen(
    workers: tuple[SeenWorker, ...], fix: str
) -> None:
    assert batches(an_overview(600, workers=workers)).fix == fix


def test_the_line_names_what_waits_who_works_and_what_finished_last() -> None:
    overview = replace(
        an_overview(12, 3, workers=(a_worker(in_use=2),)), last_outcome=an_outcome(90), poison=1
    )

    assert service_line(overview) == (
        "waiting 2 (oldest 12 s) · in progress 2 · poison 1 · workers 1 (seen 5 s ago) · "
        "last ward-7 succeeded 90 s ago"
    )


@pytest.mark.parametrize(
    ("workers", "text"),
    [((), "workers 0 (none was seen)"), ((a_worker(7200),), "workers 0 (gone, last seen 2 h ago)")],
)
def test_the_line_names_workers_that_are_gone(workers: tuple[SeenWorker, ...], text: str) -> None:
    assert service_line(an_overview(workers=workers)).endswith(text)


def test_a_peek_that_is_full_is_completed_by_the_length() -> None:
    overview = an_overview(*range(PEEK), workers=(a_worker(in_use=4),), length=100)

    assert overview.waiting == 96


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_old_presence_records_are_deleted() -> None:
    blobs = FakeBlobs(["workers"])
    for name in ("old", "new"):
        await write_presence(blobs, replace(PRESENCE, worker=name))
    blobs.age("workers", "presence/old.json", KEPT + timedelta(seconds=1))

    await delete_old_records(blobs)

    assert [worker.presence.worker for worker in await read_workers(blobs)] == ["new"]


async def test_without_the_container_no_worker_was_seen() -> None:
    assert await read_workers(FakeBlobs([])) == []
