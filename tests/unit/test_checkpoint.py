"""Block names: their parts, and the progress that a list of them shows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batches import checkpoint
from shared.batches.checkpoint import (
    COUNT_BITS,
    COUNTS,
    DIGITS,
    DataBlock,
    Marker,
    furthest_blocks,
    plan_of,
    read_progress,
)
from shared.batches.ports import Staged
from shared.files.base import Limits
from shared.records.counts import OTHER_ENCODING, Counts
from shared.records.errors import CODES
from shared.settings import MAX_BLOCK_ROWS

PLAN, OTHER = "0123456789", "9876543210"
LARGEST = Counts.of([(OTHER_ENCODING << 1) - 1, *[MAX_BLOCK_ROWS] * COUNTS])

counts = st.tuples(
    st.integers(0, (OTHER_ENCODING << 1) - 1), *[st.integers(0, MAX_BLOCK_ROWS)] * COUNTS
).map(Counts.of)


def data(sequence: int, *, plan: str = PLAN, end: int | None = None, rows: int = 10) -> Staged:
    offset = 100 * (sequence + 1) if end is None else end
    return Staged(DataBlock(plan, sequence, offset, Counts(rows)).name, 50)


def begun(blocks: int, *, message: str = "m", plan: str = PLAN) -> Marker:
    return Marker.begin(plan, message, blocks)


def staged(*markers: Marker) -> list[Staged]:
    return [Staged(marker.name, 1) for marker in markers]


@given(st.integers(0, 0xFFFFF), st.integers(0, (1 << 40) - 1), counts)
def test_a_name_has_64_characters_and_reads_back(sequence: int, offset: int, found: Counts) -> None:
    block = DataBlock(PLAN, sequence, offset, found, 7)

    assert len(block.name) == 64
    assert DataBlock.parse(Staged(block.name, 7)) == block


def test_the_largest_numbers_read_back() -> None:
    block = DataBlock(PLAN, 0xFFFFF, (1 << 40) - 1, LARGEST)

    assert DataBlock.parse(Staged(block.name, 0)) == block


def test_every_code_of_a_rejection_has_its_place_in_a_name() -> None:
    assert len(Counts().numbers) == 1 + 4 + len(CODES) <= 1 + COUNTS
    assert MAX_BLOCK_ROWS < 1 << COUNT_BITS


def test_names_of_one_plan_sort_by_sequence() -> None:
    rng = random.Random(7)
    blocks = [
        DataBlock(PLAN, n, rng.randrange(1 << 40), Counts(rng.randrange(9))) for n in range(300)
    ]

    names = [block.name for block in blocks]

    assert sorted(names) == names
    assert sorted(DIGITS) == list(DIGITS)


def test_a_marker_reads_back_and_its_excuse_belongs_to_it() -> None:
    marker = begun(3)

    assert len(marker.name) == 64
    assert Marker.parse(Staged(marker.name, 1)) == marker
    assert marker.excuse().nonce == marker.nonce
    assert Marker.parse(Staged(marker.excuse().name, 1)) == marker.excuse()


def test_names_that_are_not_ours_are_no_blocks() -> None:
    for name in ("0" * 64, "d" + "~" * 63, "b" + "ä" * 63, "x" * 64, "d" + PLAN + "zz", ""):
        assert DataBlock.parse(Staged(name, 1)) is None
        assert Marker.parse(Staged(name, 1)) is None


def test_a_plan_depends_on_all_that_changes_the_bytes() -> None:
    identity: dict[str, object] = {"container": "c", "blob": "b", "etag": "1"}
    plans = {
        plan_of(identity, "csv", "f" * 64, Limits()),
        plan_of(identity | {"etag": "2"}, "csv", "f" * 64, Limits()),
        plan_of(identity | {"include_input": True}, "csv", "f" * 64, Limits()),
        plan_of(identity, "jsonl", "f" * 64, Limits()),
        plan_of(identity, "csv", "e" * 64, Limits()),
        plan_of(identity, "csv", "f" * 64, Limits(rows=1)),
        plan_of(identity, "csv", "f" * 64, Limits(size=1)),
    }

    assert len(plans) == 7
    assert all(len(plan) == 10 and set(plan) <= set(DIGITS) for plan in plans)


def test_progress_is_the_longest_run_without_a_gap() -> None:
    listed = [data(0), data(1), data(3), data(2, plan=OTHER)]
    random.Random(1).shuffle(listed)

    progress = read_progress(listed, PLAN, "m")

    assert [block.sequence for block in progress.done] == [0, 1]
    assert progress.offset == 200
    assert [block.size for block in progress.done] == [50, 50]


def test_without_a_first_block_there_is_no_progress() -> None:
    assert read_progress([data(1), data(2)], PLAN, "m").done == ()
    assert read_progress([], PLAN, "m").offset == 0


def test_blocks_of_another_version_are_no_progress() -> None:
    listed = [data(0, plan=OTHER), Staged("d" + OTHER + "~" * 53, 1), Staged("b" + "~" * 63, 1)]

    assert read_progress(listed, PLAN, "m") == read_progress([], PLAN, "m")


def test_deliveries_without_an_end_are_counted() -> None:
    listed = [data(0), *staged(begun(1), begun(1))]

    assert read_progress(listed, PLAN, "m").unexplained == 2


def test_an_excuse_takes_its_delivery_out_of_the_count() -> None:
    one, two = begun(1), begun(1)
    listed = [data(0), *staged(one, two, one.excuse())]

    assert read_progress(listed, PLAN, "m").unexplained == 1


def test_progress_explains_the_deliveries_before_it() -> None:
    listed = [data(0), data(1), *staged(begun(0), begun(1), begun(2))]

    assert read_progress(listed, PLAN, "m").unexplained == 1


def test_deliveries_of_other_messages_and_plans_are_not_counted() -> None:
    listed = staged(begun(0, message="another"), begun(0, plan=OTHER), begun(0))

    assert read_progress(listed, PLAN, "m").unexplained == 1


def test_the_furthest_blocks_are_of_one_plan_and_hold_no_markers() -> None:
    listed = [data(0), data(0, plan=OTHER), data(1, plan=OTHER), *staged(begun(0))]

    found = furthest_blocks(listed)

    assert [(block.plan, block.sequence) for block in found] == [(OTHER, 0), (OTHER, 1)]
    assert furthest_blocks(staged(begun(0))) == []


@pytest.mark.parametrize(
    ("kind", "library"),
    [("csv", "onnxruntime"), ("csv", "polars"), ("parquet", "pyarrow"), ("xlsx", "openpyxl")],
)
def test_a_plan_depends_on_the_versions_of_the_libraries(
    kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = dict.fromkeys(("onnxruntime", "polars", "pyarrow", "openpyxl"), "1")
    monkeypatch.setattr(checkpoint, "version", versions.get)
    checkpoint._libraries.cache_clear()
    before = plan_of({}, kind, "f" * 64, Limits())
    versions[library] = "2"
    checkpoint._libraries.cache_clear()
    after = plan_of({}, kind, "f" * 64, Limits())
    monkeypatch.undo()
    checkpoint._libraries.cache_clear()

    assert before != after


def test_two_blocks_of_one_sequence_end_the_progress() -> None:
    first = DataBlock("p" * 10, 0, 100, Counts(rows=5))
    second = DataBlock("p" * 10, 1, 200, Counts(rows=5))
    other = DataBlock("p" * 10, 1, 150, Counts(rows=5))
    staged = [Staged(block.name, 9) for block in (first, second, other)]

    assert len(read_progress(staged[:2], "p" * 10, "m").done) == 2
    assert len(read_progress(staged, "p" * 10, "m").done) == 1
