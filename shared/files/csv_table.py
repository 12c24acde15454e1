"""CSV in and out.

`csv_header` reads the first line, `csv_cells` turns lines into columns, and here these become
numbers and the scores become CSV. A cell that Polars takes for a finite number is taken as it is;
every other one goes to `FieldSpec.read_text`, so both give the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.files.base import ROW_TOO_LONG, Block, Limits, Scored
from shared.files.csv_cells import RaggedRows, blank_bytes, read_cells
from shared.files.csv_header import LOST_LINE_ENDS, Headed, Header, find_header
from shared.files.csv_output import FORMULA, nulls
from shared.files.dialect import MAY_HAVE_COMMAS, PLAIN, SAMPLE, Dialect, has_decimal_commas
from shared.files.encoding import Utf16, as_utf8
from shared.files.lines import LineSplitter, count_rows
from shared.files.options import Options
from shared.files.output import Columns, Output, Shown
from shared.files.values import explain, faults_of
from shared.records.columns import (
    UNREADABLE,
    Rejected,
    Values,
    faults,
    score_columns,
    shared_rejections,
)
from shared.records.counts import OTHER_ENCODING
from shared.records.errors import BadFile, FieldError
from shared.records.schema import NOT_TEXT, RECORD_ID_LENGTH, FieldSpec, FieldTable
from shared.records.scoring import Scorer

THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+", re.ASCII)
"""Numbers in which a comma may separate thousands."""
PLAIN_BYTES = bytes(set(range(0x20, 0x7F)) - set(b'"=+@;')) + b"\n"
"""Bytes that make no id odd in a comma-separated file, unless the id begins with a hyphen."""


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """A block's rows, read and checked."""

    first: bool
    """Whether this is the file's first block."""
    values: Values
    rejected: Rejected
    frame: pl.DataFrame
    """Columns that the output shows next to the score."""
    plain: bool
    """Whether no id could run as a formula in a spreadsheet."""
    windows: bool
    """Whether some were read as Windows-1252."""


class CsvTable(Headed):
    """A CSV file with a header line."""

    def __init__(self, scorer: Scorer, options: Options, limits: Limits, output: Output) -> None:
        self.output = output
        self._scorer = scorer
        self._include_input = options.include_input
        self._rename = options.rename
        self._limits = limits
        self._head = b""
        self._has_words = False
        """Whether a block had words in a field's column: later blocks probably have, too."""
        self._splitter: LineSplitter | None = None
        """None until the header was read, and enough after it to tell the dialect."""
        self._dialect = PLAIN
        self._encoding = Utf16()
        self._skipping = 0
        """Bytes of the header that are still to be skipped after a restart."""

    @property
    def ready(self) -> bool:
        return self._splitter is not None and not self._encoding.found

    def jump(self, offset: int) -> bool:
        self._open(whole=True)
        header, splitter = self._parts()
        if self._encoding.found:
            self._encoding.restart()
            self._skipping = header.length
            self._splitter = LineSplitter(self._limits, header.length, header.separator)
            return False
        splitter.jump(offset)
        return True

    def feed(self, chunk: bytes) -> Iterator[Block]:
        yield from self._feed(self._encoding.feed(chunk))

    def _feed(self, chunk: bytes) -> Iterator[Block]:
        skipped = min(self._skipping, len(chunk))
        self._skipping -= skipped
        chunk = chunk[skipped:]
        if self._splitter is None:
            self._head += chunk
            chunk = self._open(whole=False)
        if self._splitter is not None:
            yield from self._splitter.feed(chunk)

    def finish(self) -> Iterator[Block]:
        yield from self._feed(self._encoding.feed(b"", last=True))
        rest = self._open(whole=True)
        yield from self._parts()[1].feed(rest)
        yield from self._parts()[1].finish()

    def _open(self, *, whole: bool) -> bytes:
        """Read the header once it is complete; return the bytes after it."""
        if self._splitter is not None:
            return b""
        header = self._header or find_header(
            self._head, self._scorer.table, self._rename, whole=whole
        )
        if header is None:
            return b""
        self._header = header
        sample = self._head[header.length : header.length + SAMPLE]
        if header.separator in MAY_HAVE_COMMAS and len(sample) < SAMPLE and not whole:
            return b""
        self._dialect = replace(
            header.dialect,
            decimal_comma=has_decimal_commas(sample, header.separator),
            bom=header.dialect.bom or self._encoding.found,
        )
        self._splitter = LineSplitter(self._limits, header.length, header.separator)
        rest, self._head = self._head[header.length :], b""
        return rest

    def _parts(self) -> tuple[Header, LineSplitter]:
        if self._header is None or self._splitter is None:
            raise RuntimeError("the header was not read yet")
        return self._header, self._splitter

    def count_rows(self, block: Block) -> int:
        return count_rows(block.lines, blank_bytes(self._parts()[0]))

    def read(self, block: Block) -> Rows:
        header, _ = self._parts()
        lines, windows = as_utf8(block.lines, block.start)
        block = replace(block, lines=lines)
        frame, rejected = self._cells(block, header)
        if block.first and frame.height == 0 and header.has_numbers:
            raise BadFile(f"the file has no rows; {LOST_LINE_ENDS}")
        found: dict[int, list[FieldError]] = {}
        plain = True
        if header.record_id is not None:
            ids = frame[f"c{header.record_id}"]
            plain, found = _read_ids(ids, block.lines.content, header.dialect, self._scorer.table)
        values = self._values(frame, header, rejected, found)
        if not self._include_input:
            # Only this column is still needed.
            frame = frame.select(f"c{i}" for i in [header.record_id] if i is not None)
        return Rows(block.first, values, rejected, frame, plain, windows)

    def score(self, rows: Rows, first_row: int) -> Scored:
        header, _ = self._parts()
        frame = rows.frame
        outcome = score_columns(self._scorer, rows.values, rows.rejected, counting=rows.first)
        if rows.windows:
            outcome.counts.marks |= OTHER_ENCODING
        inputs = None
        if self._include_input:
            inputs = Columns(header.columns, [frame[f"c{i}"] for i in range(len(header.columns))])
        # Excel takes text for Windows-1252 where no mark says otherwise.
        dialect = replace(self._dialect, bom=self._dialect.bom or rows.windows)
        ids = _ids(frame, header, rows, self._scorer.table)
        shown = Shown(ids, inputs, rows.plain, dialect)
        content = self.output.write(outcome, shown, first_row, first=rows.first)
        return Scored(content, outcome)

    def _cells(self, block: Block, header: Header) -> tuple[pl.DataFrame, Rejected]:
        """Text of the needed columns, and the rows that are too long or have a wrong width."""
        wanted = range(len(header.columns)) if self._include_input else header.needed
        if block.lines.too_long:
            return pl.DataFrame([pl.Series(f"c{i}", [None], pl.String) for i in wanted]), {
                0: (ROW_TOO_LONG,)
            }
        frame, ragged = read_cells(block, header, wanted, self._numbers_of(header))
        if block.first and ragged and len(ragged) == frame.height:
            _refuse_if_alike(ragged, header)
        count = FieldError(
            "wrong_field_count", limit=f"{len(header.columns)} cells, like the header"
        )
        return frame, dict.fromkeys(ragged, (count,))

    def _numbers_of(self, header: Header) -> Collection[int]:
        """Columns to be read as numbers at once; none where their text is needed."""
        if self._has_words or self._include_input or header.decimal_comma:
            return ()
        return header.places.values()

    def _values(
        self,
        frame: pl.DataFrame,
        header: Header,
        rejected: Rejected,
        found: dict[int, list[FieldError]],
    ) -> Values:
        """Values of all fields.

        Adds faulty rows to `found`, then all of `found` to `rejected` unless they are there.
        """
        table = self._scorer.table
        values = np.empty((len(table.fields), frame.height))
        for index, field in enumerate(table.fields):
            if field.name not in header.places:
                values[index] = np.nan
            else:
                cells = frame[f"c{header.places[field.name]}"]
                read: Callable[[Any], float] = field.read
                if cells.dtype == pl.Float64:
                    values[index] = cells.to_numpy()
                else:
                    self._has_words = True
                    read = partial(field.read_text, decimal_comma=header.decimal_comma)
                    if header.separator == "\t":
                        read = partial(_read_of_tabs, field)
                    values[index] = _numbers(cells, read, decimal_comma=header.decimal_comma)
                rows = np.flatnonzero(faults(values[index], field))
                for row, rejections in explain(cells, rows, read, field):
                    found.setdefault(row, []).extend(rejections)
        for row, faulty in shared_rejections(found).items():
            rejected.setdefault(row, faulty)
        return values


def _read_of_tabs(field: FieldSpec, text: str) -> float:
    """A cell between tabs: a comma is a decimal sign unless it may separate thousands."""
    return field.read_text(text, decimal_comma=not THOUSANDS.fullmatch(text.strip()))


def _refuse_if_alike(ragged: RaggedRows, header: Header) -> None:
    """Raise `BadFile` if all rows of a file have the same wrong number of cells."""
    counts = {row.cells for row in ragged.values()}
    if len(counts) > 1:
        return
    [cells] = counts
    width = len(header.columns)
    if cells == width + 1 and all(row.ends_empty for row in ragged.values()):
        why = "each row ends with a separator that the header lacks: remove it"
    elif cells == width + 1:
        why = (
            "do they begin with row names that have no name in the header? "
            "Write the file without row names (in R: row.names = FALSE)"
        )
    else:
        why = "give the header and the rows the same number of cells"
    raise BadFile(f"every row has {cells} cells and the header has {width}: {why}")


def _numbers(
    cells: pl.Series, read: Callable[[str], float], *, decimal_comma: bool
) -> NDArray[np.float64]:
    """One field's values: NaN for missing, `UNREADABLE` for what is neither number nor word."""
    numbers = cells.str.replace(",", ".", literal=True) if decimal_comma else cells
    values = numbers.cast(pl.Float64, strict=False).to_numpy(writable=True)
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd) > cells.null_count():
        # Words, texts for "missing", cells with blanks around, and all that is not a number.
        texts = cells.gather(odd)
        distinct = texts.unique()
        known = [UNREADABLE if faults_of(read, t or "") else read(t or "") for t in distinct]
        values[odd] = texts.replace_strict(distinct, pl.Series(known, dtype=pl.Float64)).to_numpy()
    return values


def _read_ids(
    ids: pl.Series, content: bytes, dialect: Dialect, table: FieldTable
) -> tuple[bool, dict[int, list[FieldError]]]:
    """Whether all ids are plain, and the errors of invalid ones by row."""
    # Usually one check of the block's content and one of each id's length are enough.
    if not (_any_odd(ids, content, dialect) or (ids.str.len_bytes() > RECORD_ID_LENGTH).any()):
        return True, {}
    suspect = (ids.str.len_chars() > RECORD_ID_LENGTH) | ids.str.contains(NOT_TEXT)
    return False, {row: faults_of(table.read_id, ids[row]) for row in suspect.arg_true()}


def _any_odd(ids: pl.Series, content: bytes, dialect: Dialect) -> bool:
    """Whether some id may not be shown unchanged, length aside; `content` holds them all."""
    # This takes half or a third of the time of the expression below.
    if dialect.separator == "," and not content.translate(None, PLAIN_BYTES):
        return b"-" in content and ids.str.starts_with("-").any()
    return ids.str.contains(f"{NOT_TEXT}|{FORMULA}|{dialect.split_formula}").any()


def _ids(frame: pl.DataFrame, header: Header, rows: Rows, table: FieldTable) -> pl.Series:
    """Ids to show: none if the id is invalid, or the cells may belong to another column."""
    if header.record_id is None:
        return nulls(rows.values.shape[1])
    hidden = [
        row
        for row, rejections in rows.rejected.items()
        if any(r.field == table.record_id or r.code == "wrong_field_count" for r in rejections)
    ]
    ids = frame[f"c{header.record_id}"]
    return ids.clone().scatter(hidden, None) if hidden else ids
