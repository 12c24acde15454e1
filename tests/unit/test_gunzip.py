"""Unpacking gzip as a stream: whole and damaged files, and limits."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import pytest

from shared.files.gunzip import PIECE, Gunzip
from shared.records.errors import BadFile

TEXT = b"age,sex\n" + b"54,1\n" * 5000
PACKED = gzip.compress(TEXT, mtime=0)


def unpack(packed: bytes, step: int | None = None, limit: int = 1 << 30) -> bytes:
    gunzip = Gunzip(limit)
    step = step or max(len(packed), 1)
    pieces = [
        piece
        for start in range(0, len(packed), step)
        for piece in gunzip.feed(packed[start : start + step])
    ]
    gunzip.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1, 2, 17, 64, None])
def test_a_file_is_the_same_however_it_comes(step: int | None) -> None:
    assert unpack(PACKED, step) == TEXT


@pytest.mark.parametrize("step", [1, None])
def test_several_members_are_one_file(step: int | None) -> None:
    assert unpack(PACKED + gzip.compress(b"") + gzip.compress(b"55,0\n"), step) == TEXT + b"55,0\n"


def test_zeros_after_the_end_are_padding() -> None:
    assert unpack(PACKED + b"\0" * 512, 100) == TEXT


@pytest.mark.parametrize("step", [1, None])
def test_a_file_that_was_cut_off_is_refused(step: int | None) -> None:
    for length in (0, 1, 9, 11, len(PACKED) // 2, len(PACKED) - 1):
        with pytest.raises(BadFile, match="ends too early: the file is empty or was cut off"):
            unpack(PACKED[:length], step)
    with pytest.raises(BadFile, match="ends too early"):
        unpack(PACKED + PACKED[:-3], step)


@pytest.mark.parametrize("step", [1, None])
def test_data_after_the_end_is_refused(step: int | None) -> None:
    with pytest.raises(BadFile, match="damaged, or followed by something else"):
        unpack(PACKED + b"54,1\n", step)


def test_a_file_that_is_not_gzip_is_refused() -> None:
    for content in (TEXT, b"PK\x03\x04" + bytes(100), b"\0" * 10):
        with pytest.raises(BadFile, match="the file is not gzip"):
            unpack(content)


def test_a_changed_byte_is_noticed() -> None:
    packed = gzip.compress(random.Random(1).randbytes(5000), mtime=0)
    for place in (100, 2500, len(packed) - 8, len(packed) - 1):
        changed = bytearray(packed)
        changed[place] ^= 1

        with pytest.raises(BadFile, match="not gzip, or damaged"):
            unpack(bytes(changed))


def test_the_limit_counts_unpacked_bytes_of_all_members() -> None:
    assert unpack(PACKED * 2, limit=2 * len(TEXT)) == TEXT * 2
    with pytest.raises(BadFile, match=f"more than {2 * len(TEXT) - 1} bytes when unpacked"):
        unpack(PACKED * 2, limit=2 * len(TEXT) - 1)


def test_a_bomb_is_never_in_memory() -> None:
    bomb = gzip.compress(bytes(256 << 20), compresslevel=1)
    gunzip = Gunzip(limit=200 << 20)
    sizes: list[int] = []

    tracemalloc.start()
    with pytest.raises(BadFile, match="bytes when unpacked"):
        sizes.extend(map(len, gunzip.feed(bomb)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 199 << 20 < sum(sizes) <= 200 << 20
    assert max(sizes) <= PIECE
    assert most < 8 << 20
