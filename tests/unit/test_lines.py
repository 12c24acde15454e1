"""Cutting a stream into blocks of whole lines."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.files import lines as module
from shared.files.base import Block, Limits
from shared.files.lines import (
    LineScanner,
    LineSplitter,
    line_ends,
    places,
    quotes_are_regular,
    split_cells,
)
from shared.records.errors import BadFile
from tests.builders import cut

RAW = st.lists(st.sampled_from(["a", '"', ",", "\n", '"\n', '",', ',"', '""', "é"]), max_size=40)


def split(
    pieces: Iterable[bytes], limits: Limits, separator: str | None = ",", position: int = 0
) -> list[Block]:
    splitter = LineSplitter(limits, position, separator)
    found = [block for piece in pieces for block in splitter.feed(piece)]
    return [*found, *splitter.finish()]


def lines_of(blocks: list[Block]) -> list[bytes]:
    """Lines without their ends; b'TOO LONG' for one whose content was not kept."""
    found: list[bytes] = []
    for block in blocks:
        if block.lines.too_long:
            found.append(b"TOO LONG")
            continue
        start = 0
        for end in block.lines.ends.tolist():
            found.append(block.lines.content[start : end - 1])
            start = end
    return found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(RAW.map("".join), st.integers(1, 4), st.integers(1, 20))
def test_lines_and_cells_are_those_of_the_standard_library(text: str, rows: int, size: int) -> None:
    content = text.encode()
    limits = Limits(rows, size)
    try:
        blocks = split([content], limits)
    except BadFile:
        with pytest.raises(csv.Error):
            list(csv.reader(io.StringIO(text, newline=""), strict=True))
        for step in (1, 3):
            with pytest.raises(BadFile):
                split(cut(content, step), limits)
        return

    cells = [split_cells(line.decode(), ",") if line else [] for line in lines_of(blocks)]

    assert cells == list(csv.reader(io.StringIO(text, newline="")))
    for step in (1, 2, 3):
        pieces = split(cut(content, step), limits)
        assert [(b.start, b.end, b.first) for b in pieces] == [
            (b.start, b.end, b.first) for b in blocks
        ]
        assert lines_of(pieces) == lines_of(blocks)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(RAW.map("".join))
def test_the_fast_search_for_line_ends_agrees_with_the_careful_one(text: str) -> None:
    content = text.encode()
    scanner = LineScanner(ord(","))
    careful: list[int] = []
    start = 0
    while (end := scanner.find_end(content, start)) is not None:
        careful.append(end)
        start = end

    assert line_ends(content, ord(",")).tolist() == careful


@pytest.mark.parametrize(
    ("text", "regular"),
    [
        ('"a",b\n"c\nd","e""f"\r\n"",""""\n', True),
        ('"open', True),
        ('a"b,c\n', False),
        ('"a"b,c\n', False),
        ('"a" ,c\n', False),
        (' "a",c\n', False),
        ('a""b\n', False),
    ],
)
def test_quotes_are_regular_around_whole_cells_and_doubled_inside(text: str, regular: bool) -> None:
    content = np.frombuffer(text.encode(), np.uint8)

    assert quotes_are_regular(content, places(content, ord('"')), ord(",")) is regular


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 60), max_size=12), st.booleans(), st.integers(1, 4), st.integers(1, 50)
)
def test_a_long_line_is_a_block_of_its_own_wherever_the_stream_is_cut(
    lengths: list[int], ended: bool, rows: int, size: int
) -> None:
    content = b"\n".join(b"x" * length for length in lengths) + b"\n" * ended
    limits = Limits(rows, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROW_BYTES", 40)
        whole = split([content], limits, None)
        small = split(cut(content, 1), limits, None)

    assert [(b.start, b.end, b.lines.too_long) for b in small] == [
        (b.start, b.end, b.lines.too_long) for b in whole
    ]
    assert lines_of(small) == lines_of(whole)
    expected = content.split(b"\n")[: None if content and not content.endswith(b"\n") else -1]
    assert lines_of(whole) == [b"TOO LONG" if len(x) >= 40 else x for x in expected]


def test_a_block_ends_at_its_rows_or_at_its_bytes_whichever_comes_first() -> None:
    content = b"a\nbb\nccccccc\nd\ne\nf\n"

    blocks = split([content], Limits(rows=3, size=8))

    assert [b.lines.content for b in blocks] == [b"a\nbb\nccccccc\n", b"d\ne\nf\n"]
    assert [(b.start, b.end) for b in blocks] == [(0, 13), (13, 19)]
    assert [b.lines.content for b in split([content], Limits(rows=9, size=3))] == [
        b"a\nbb\n",
        b"ccccccc\n",
        b"d\ne\n",
        b"f\n",
    ]


def test_blocks_follow_each_other_without_gap_up_to_the_end_of_the_file() -> None:
    for content in (b"a\nb\nc", b"a\nb\nc\n", b"a\n\n\n", b""):
        blocks = split([content], Limits(rows=1), position=7)

        assert blocks[0].start == 7
        assert blocks[-1].end == 7 + len(content)
        assert [b.start for b in blocks[1:]] == [b.end for b in blocks[:-1]]
        assert [b.first for b in blocks] == [True] + [False] * (len(blocks) - 1)


def test_a_jump_forgets_all_that_was_fed() -> None:
    splitter = LineSplitter(Limits(rows=1, size=4), 0, ",")
    for _ in splitter.feed(b'a\nb\n"' + b"x" * (2 << 20)):
        break

    splitter.jump(100)

    [block] = [*splitter.feed(b"last"), *splitter.finish()]
    assert (block.start, block.end, block.first) == (100, 104, False)
    assert block.lines.content == b"last\n"


def test_an_open_quote_is_refused_with_the_place_of_its_row() -> None:
    with pytest.raises(BadFile, match="the row that starts at byte 12 opens a quote"):
        split([b'a,b\nc,"d\n"\n\ne,"f\ng\n'], Limits())


def test_an_open_quote_is_not_kept_in_memory() -> None:
    splitter = LineSplitter(Limits(size=1 << 10), 0, ",")
    for piece in [b'a,b\n"', *[b"x\n" * 50_000] * 40]:
        list(splitter.feed(piece))

        assert splitter._size == sum(map(len, splitter._pieces)) < 2 << 20
    with pytest.raises(BadFile, match="byte 4"):
        list(splitter.finish())


def test_many_small_pieces_take_no_more_than_their_content() -> None:
    splitter = LineSplitter(Limits(size=1 << 20), 0, ",")

    tracemalloc.start()
    for _ in range(1 << 16):
        assert list(splitter.feed(b"a,")) == list(splitter.feed(b"b\n")) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 1 << 20
    content = b"".join(block.lines.content for block in splitter.finish())
    assert content == b"a,b\n" * (1 << 16)


def test_without_a_separator_quotes_hide_nothing() -> None:
    assert line_ends(b'"a\nb"\n', None).tolist() == [3, 6]
    assert line_ends(b"", ord(",")).dtype == np.int32
