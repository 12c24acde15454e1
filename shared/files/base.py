"""Files of records in, files of scores out, block by block: the parts that all formats share.

A table reads one file. It is fed bytes as they come and hands out blocks; where a block ends
depends only on the file's content and the plan's limits, never on how the bytes arrived, so a
block that is made again after a crash has the same bytes. Each `<format>_table` is one;
`shared.records.columns` checks and scores columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shared.records.coding import Categories
from shared.records.columns import Outcome
from shared.records.counts import Counts
from shared.records.errors import BadFile, FieldError
from shared.records.kinds import Kind
from shared.records.schema import FieldTable

if TYPE_CHECKING:
    from shared.files.output import Output

_Bytes = TypeVar("_Bytes", bytes, bytearray)

SEPARATORS = ",;\t|"
"""Separators of cells in CSV."""
OUTPUT_FORMAT = 7
"""Increase it with each change of a block's bytes, so that versions are never mixed."""

ROW_BYTES = 1 << 20
"""A longer row is rejected; it is a block of its own."""
ROW_TOO_LONG = FieldError("too_long", limit=f"{ROW_BYTES} bytes")


def output_columns(kind: Kind, table: FieldTable) -> tuple[str, ...]:
    """The columns that every result has; those of the input may follow."""
    answer = (column.name for column in kind.columns)
    return ("row", table.record_id, *answer, "warnings", "error")


@dataclass(frozen=True, slots=True)
class Limits:
    """A block ends at `rows` lines or `size` bytes, whichever comes first."""

    rows: int = 32_000
    size: int = 2 << 20


class Lines(NamedTuple):
    """Whole lines (records, where quotes may hold line ends) and where each of them ends."""

    content: bytes
    ends: NDArray[np.int32]
    """Offset after each line's end in `content`."""
    too_long: bool = False
    """Whether this is one line over `ROW_BYTES`, whose content was not kept."""


NO_LINES = Lines(b"", np.zeros(0, np.int32))
TOO_LONG = Lines(b"", np.zeros(0, np.int32), too_long=True)


@dataclass(frozen=True, slots=True, repr=False)
class Block:
    """Rows that are scored and staged together, not read yet."""

    start: int
    end: int
    """Where the next block starts, in unpacked bytes (in a JSON array: characters)."""
    first: bool
    """The file's first block carries the output's header line."""
    lines: Lines
    items: list[object] = field(default_factory=list)
    """Parsed items, instead of lines. `read` may take them out, because they are large."""

    def __repr__(self) -> str:
        return f"Block({self.start}, {self.end})"


@dataclass(frozen=True, slots=True, repr=False)
class Scored:
    """A block's output."""

    content: bytes
    outcome: Outcome

    @property
    def counts(self) -> Counts:
        return self.outcome.counts

    @property
    def categories(self) -> Categories:
        """Counts of categories in the first block, for the guard in `shared.records.coding`."""
        return self.outcome.categories

    def __repr__(self) -> str:
        return f"Scored({self.counts})"


class Table(Protocol):
    """One file being read. Methods raise `BadFile` where it cannot be read as records.

    A block may be read while the one before it is scored.
    """

    @property
    def output(self) -> Output:
        """The writer of the scores."""
        ...

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Names of columns that are not fields, if they look like names."""
        ...

    @property
    def unnamed_columns(self) -> int:
        """Number of other columns that are not fields."""
        ...

    @property
    def absent_fields(self) -> tuple[str, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the columns, for the summary."""
        ...

    @property
    def ready(self) -> bool:
        """Whether enough was fed to `jump`. Always false for files that must be read whole.

        After a whole file was fed, `jump` works even if this is false.
        """
        ...

    def jump(self, offset: int) -> bool:
        """Continue at a block's `end`: the next bytes fed start there.

        False: offsets of this format are not byte positions, so feed the whole file again.
        """
        ...

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """Take the next bytes; hand out the blocks that are complete."""
        ...

    def finish(self) -> Iterator[Block]:
        """Hand out what is left. A file has at least one block, if only for its header."""
        ...

    def count_rows(self, block: Block) -> int:
        """Number of rows of a block, blank lines not counted, without reading them."""
        ...

    def read(self, block: Block) -> Any:
        """Read and check a block's rows: what `score` takes."""
        ...

    def score(self, rows: Any, first_row: int) -> Scored:
        """Score and write a block's rows, of which the first has this number (from 1)."""
        ...


class Seekable(Protocol):
    """A file of bytes that is read in any order."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


@runtime_checkable
class SeekingTable(Protocol):
    """A table that can also read a stored file in any order, without holding it whole."""

    def blocks(self, file: Seekable, offset: int) -> Iterator[Block]:
        """The first block, and those from `offset` (a block's `end`) on."""
        ...


class Bounds(NamedTuple):
    """Where a block begins and ends, before it is read."""

    start: int
    end: int
    rows: int
    first: bool
    splits: bool = True
    """Whether it costs little to begin reading after it."""


@runtime_checkable
class SplittingTable(Protocol):
    """A table that finds its blocks without reading them, and reads any run of them."""

    def bounds(self, file: Seekable, offset: int) -> Iterator[Bounds]:
        """The first block, and those from `offset` on."""
        ...

    def blocks_between(self, file: Seekable, start: int, end: int) -> Iterator[Block]: ...


_KINDS = (
    (
        b"PK\x03\x04",
        "an Excel workbook or another zip archive: give a workbook a name that ends in .xlsx",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an Excel workbook of the old kind (.xls) or one with a password: save it as .xlsx without",
    ),
    (b"PAR1", "Parquet: give it a name that ends in .parquet"),
    (b"\x1f\x8b", "gzip: give it a name that ends in .gz"),
    (b"BZh9", "bzip2: unpack it, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "xz: unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd: unpack it, or pack it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"%PDF-", "PDF: export the table as CSV UTF-8"),
    (b"SQLite format 3\x00", "an SQLite database: export the table as CSV UTF-8"),
)
"""File types by their first bytes, with the fix."""


def recognised(head: bytes | bytearray) -> str | None:
    """The type of a file that is neither CSV nor JSON, with the fix; None: it may be either."""
    return next((kind for first, kind in _KINDS if head.startswith(first)), None)


def strip_bom(head: _Bytes) -> _Bytes:
    """The file's first bytes without a byte order mark. Raises `BadFile` if they are not UTF-8."""
    kind = recognised(head)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        kind = "UTF-16, not UTF-8: save it as UTF-8"
    if kind is not None:
        raise BadFile(f"the file is {kind}")
    return head.removeprefix(codecs.BOM_UTF8)


def decode(content: bytes | bytearray, offset: int) -> str:
    """UTF-8 to text. Raises `BadFile` that names the byte."""
    nul = content.find(0)
    if nul >= 0:
        raise BadFile(
            f"byte {offset + nul} is NUL: the file is damaged, or UTF-16; save it as UTF-8"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadFile(
            f"byte {offset + error.start} is not UTF-8: save the file as UTF-8"
        ) from error
