"""Files of records in, files of scores out, block by block: what both formats share.

A table reads one file. It is fed bytes as they come and hands out blocks; where a block ends
depends on the file's content and the plan's limits alone, never on how the bytes arrived, so a
block made again after a crash is the same bytes. `csv_table` and `json_table` do the work;
`columns` checks and scores what stands in columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.records.counts import Counts
from shared.records.errors import BadFile, FieldError

_Bytes = TypeVar("_Bytes", bytes, bytearray)

OUTPUT_FORMAT = 1
"""Rises with any change of the bytes that a block gives, so that versions are never mixed."""

ROW_BYTES = 1 << 20
"""A longer row is rejected; it stands in a block of its own."""
ROW_TOO_LONG = FieldError("too_long", limit=f"{ROW_BYTES} bytes")

MAX_BLOCK_ROWS = 32_767
"""What a block's name can count."""

OUTPUT_COLUMNS = ("row", "patient_id", "probability", "prediction", "warnings", "error")


@dataclass(frozen=True, slots=True)
class Limits:
    """A block ends at `rows` lines or `size` bytes, whichever comes first."""

    rows: int = 32_000
    size: int = 2 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the sender asked of the output."""

    include_input: bool = False


class Lines(NamedTuple):
    """Whole lines (records, where quotes may hold line ends) and where each of them ends."""

    content: bytes
    ends: NDArray[np.int64]
    """Place after each line's end in `content`."""
    too_long: bool = False
    """Instead: one line over `ROW_BYTES`, whose content was not kept."""


NO_LINES = Lines(b"", np.zeros(0, np.int64))
TOO_LONG = Lines(b"", np.zeros(0, np.int64), too_long=True)


@dataclass(frozen=True, slots=True, repr=False)
class Block:
    """Rows that are scored and staged together, not read yet."""

    start: int
    end: int
    """Where the next block starts, in unpacked bytes (in a JSON array: characters)."""
    first: bool
    """The file's first block carries the output's header line."""
    lines: Lines
    items: tuple[object, ...] = ()
    """Of a JSON array, instead of lines: its parsed items."""

    def __repr__(self) -> str:
        return f"Block({self.start}, {self.end})"


@dataclass(frozen=True, slots=True, repr=False)
class Scored:
    """A block's output."""

    content: bytes
    counts: Counts

    def __repr__(self) -> str:
        return f"Scored({self.counts})"


class Table(Protocol):
    """One file being read. Methods raise `BadFile` where it cannot be read as records.

    A block may be read while the one before it is scored.
    """

    @property
    def ignored_columns(self) -> tuple[str, ...]: ...

    @property
    def absent_fields(self) -> tuple[str, ...]: ...

    @property
    def ready(self) -> bool:
        """Whether enough was fed to `jump` ahead; never, where a file must be read whole.

        A file that was fed whole has been enough, even if this still says no.
        """
        ...

    def jump(self, offset: int) -> None:
        """Go on from a block's `end`: what is fed next stands there."""
        ...

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """Take the next bytes; hand out the blocks that are complete."""
        ...

    def finish(self) -> Iterator[Block]:
        """Hand out what is left. A file has at least one block, if only for its header."""
        ...

    def read(self, block: Block) -> Any:
        """Read and check a block's rows: what `score` takes."""
        ...

    def score(self, rows: Any, first_row: int) -> Scored:
        """Score and write a block's rows, of which the first has this number (from 1)."""
        ...


def strip_bom(head: _Bytes) -> _Bytes:
    """The file's first bytes without a UTF-8 mark. Raises `BadFile` for other encodings."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadFile("the file is UTF-16, not UTF-8: save it as UTF-8 (in Excel: CSV UTF-8)")
    if head.startswith(b"\x1f\x8b"):
        raise BadFile("the file is gzip: give it a name that ends in .gz")
    return head.removeprefix(codecs.BOM_UTF8)


def decode(content: bytes | bytearray, offset: int) -> str:
    """UTF-8 to text. Raises `BadFile` that names the place."""
    nul = content.find(0)
    if nul >= 0:
        raise BadFile(
            f"byte {offset + nul} is NUL: the file is damaged, or UTF-16; save it as UTF-8"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadFile(
            f"byte {offset + error.start} is not UTF-8: save the file as UTF-8 "
            "(Latin-1 and Windows-1252 are not read)"
        ) from error
