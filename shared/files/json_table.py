"""JSON arrays and JSON lines in.

Read strictly: NaN and Infinity are not JSON, and a duplicate key is a fault.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.files.advice import check_keys, misnamed
from shared.files.base import (
    NO_LINES,
    ROW_BYTES,
    ROW_TOO_LONG,
    SEPARATORS,
    Block,
    Limits,
    Lines,
    Scored,
    decode,
    strip_bom,
)
from shared.files.json_array import PYTHON_NOTATION, ArrayReader
from shared.files.json_columns import Records, read_records
from shared.files.lines import LineSplitter, count_rows, without_blank_lines
from shared.files.options import Options
from shared.files.output import Items, Output, Shown
from shared.records.columns import Rejected, score_columns
from shared.records.errors import BadFile, FieldError
from shared.records.schema import printable
from shared.records.scoring import Scorer
from shared.records.shape import COMPARED, NO_OBJECT, rename_keys, why_no_record
from shared.records.strict_json import BLANK, parse_flat_lines, parse_json


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """The results of a block's items."""

    first: bool
    """Whether this is the file's first block."""
    records: Records
    items: Sequence[object]
    """Kept only if the output repeats them: nested ones take much memory."""


class _JsonTable:
    """Reading and scoring items, for both forms of JSON."""

    ignored_columns: tuple[str, ...] = ()
    unnamed_columns: int = 0
    notes: tuple[str, ...] = ()
    absent_fields: tuple[str, ...] = ()

    def __init__(self, scorer: Scorer, options: Options, limits: Limits, output: Output) -> None:
        self.output = output
        self._scorer = scorer
        self._include_input = options.include_input
        self._rename = options.rename
        # Parsed items take many times the memory of their text, nested ones fifty times.
        self._limits = Limits((limits.rows + 1) // 2, (limits.size + 3) // 4)
        old = {new: old for old, new in options.rename.items()}
        self._names = [
            old.get(name, name) for name in (scorer.table.record_id, *scorer.table.by_name)
        ]
        """Keys of the input, in case the output has columns for them."""

    def _items(self, block: Block) -> Sequence[object]:
        """Parsed records; a `FieldError` is where there is none."""
        raise NotImplementedError

    def read(self, block: Block) -> Rows:
        given = items = self._items(block)
        table = self._scorer.table
        if self._rename:
            items = [rename_keys(item, self._rename) for item in given]
        records = read_records(items, table)
        rejected = [items[index] for index in records.rejected]
        check_keys(rejected, table)
        if block.first and items:
            self._check_first(items, rejected)
        return Rows(block.first, records, given if self._include_input else ())

    def _check_first(self, items: Sequence[object], rejected: Sequence[object]) -> None:
        """Raise `BadFile` if the file's first records show that it holds something else."""
        table = self._scorer.table
        if rejected:
            keys = {key for item in items if isinstance(item, dict) for key in item}
            reasons = [why_no_record(item, table) for item in items]
            # An object with an `id` and no field is another thing, not a record with a wrong key.
            ids = () if all(reasons) else (table.record_id,)
            absent = [name for name in (*table.by_name, *ids) if name not in keys]
            unknown = sorted(keys - table.known_keys)[:COMPARED]
            fault = misnamed(unknown, absent, table, "key")
            if fault or all(reasons):
                raise BadFile(fault or reasons[0] or NO_OBJECT)
        if not self._rename:
            return
        lacking = set(self._rename.values()) - {
            key for item in items if isinstance(item, dict) for key in item
        }
        if lacking:
            names = [printable(old) for old, new in self._rename.items() if new in lacking]
            raise BadFile(f"rename: no record has the key {', '.join(f'`{n}`' for n in names)}")

    def score(self, rows: Rows, first_row: int) -> Scored:
        records = rows.records
        outcome = score_columns(self._scorer, records.values, records.rejected, counting=rows.first)
        inputs = Items(self._names, rows.items) if self._include_input else None
        shown = Shown(records.ids, inputs)
        content = self.output.write(outcome, shown, first_row, first=rows.first)
        return Scored(content, outcome)


class JsonLinesTable(_JsonTable):
    """One JSON object per line."""

    def __init__(self, scorer: Scorer, options: Options, limits: Limits, output: Output) -> None:
        super().__init__(scorer, options, limits, output)
        self._piece = self._limits.size
        """Bytes of lines that are parsed at once."""
        if not options.include_input:
            self._limits = Limits(self._limits.rows, limits.size)
        self._head = b""
        self._splitter: LineSplitter | None = None

    @property
    def ready(self) -> bool:
        return self._splitter is not None

    def jump(self, offset: int) -> bool:
        self._open(whole=True)
        self._lines().jump(offset)
        return True

    def feed(self, chunk: bytes) -> Iterator[Block]:
        if self._splitter is None:
            self._head += chunk
            chunk = self._open(whole=False)
        if self._splitter is not None:
            yield from self._splitter.feed(chunk)

    def finish(self) -> Iterator[Block]:
        rest = self._open(whole=True)
        yield from self._lines().feed(rest)
        yield from self._lines().finish()

    def _open(self, *, whole: bool) -> bytes:
        """Begin when there is content; return it."""
        if self._splitter is not None:
            return b""
        blank = not strip_bom(self._head[:ROW_BYTES]).strip()
        if blank and (whole or len(self._head) > ROW_BYTES):
            raise BadFile("the file is empty: one JSON object on each line is needed")
        if blank or (len(self._head) < len(codecs.BOM_UTF8) and not whole):
            return b""
        rest = strip_bom(self._head)
        self._splitter = LineSplitter(self._limits, len(self._head) - len(rest), None)
        self._head = b""
        return rest

    def _lines(self) -> LineSplitter:
        if self._splitter is None:
            raise RuntimeError("the file's head was not read yet")
        return self._splitter

    def count_rows(self, block: Block) -> int:
        return count_rows(block.lines, BLANK.encode())

    def read(self, block: Block) -> Rows:
        # The first block has more checks. Arrow takes a while to import: small files do without.
        if not (block.first or block.lines.too_long or self._rename or self._include_input):
            from shared.files.json_typed import read_lines

            decode(block.lines.content, block.start)
            lines = without_blank_lines(block.lines, BLANK.encode())
            rows = read_lines(lines, self._scorer.table)
            if rows is not None:
                records = Records(rows.values, rows.rejected, rows.ids.to_list())
                return Rows(first=False, records=records, items=())
        return _joined([*map(super().read, self._pieces(block))])

    def _pieces(self, block: Block) -> Iterator[Block]:
        content, ends = block.lines.content, block.lines.ends
        if len(content) <= self._piece or self._include_input:
            yield block
            return
        start = used = 0
        while used < len(ends):
            stop = max(used + 1, int(np.searchsorted(ends, start + self._piece, side="right")))
            end = int(ends[stop - 1])
            lines = Lines(content[start:end], ends[used:stop] - start)
            yield Block(block.start + start, block.start + end, block.first and not used, lines)
            start, used = end, stop

    def _items(self, block: Block) -> list[object]:
        if block.lines.too_long:
            return [ROW_TOO_LONG]
        lines = decode(block.lines.content, block.start).split("\n")
        lines = [line for line in map(_stripped, lines) if line]
        items: list[object] = [*(parse_flat_lines(lines) or map(_parse, lines))]
        if block.first and items and not any(isinstance(item, dict) for item in items):
            raise BadFile(_why_no_lines(lines, items[0]))
        return items


def _joined(pieces: Sequence[Rows]) -> Rows:
    """The pieces of one block; where items are kept, a block is one piece."""
    if len(pieces) == 1:
        return pieces[0]
    rejected: Rejected = {}
    ids: list[str | None] = []
    for records in (piece.records for piece in pieces):
        rejected.update({len(ids) + row: why for row, why in records.rejected.items()})
        ids += records.ids
    values = np.concatenate([piece.records.values for piece in pieces], axis=1)
    return Rows(pieces[0].first, Records(values, rejected, ids), ())


def _why_no_lines(lines: Sequence[str], first: object) -> str:
    """Why no line of a file is a JSON object, with the fix."""
    line = lines[0]
    need = "JSON lines need one object on each line"
    if line in ("[", "{") or (line.startswith("{") and len(lines) > 1 and "}" not in line):
        return f"the JSON is spread over several lines, and {need}: name the file .json"
    if isinstance(first, list) and len(lines) > 1:
        return f"the lines are arrays, and {need}, with the names of the fields"
    if isinstance(first, list):
        return f"the file is one JSON array, and {need}: name the file .json"
    if line.endswith("},"):
        return f"the lines end with commas, and {need}: remove the commas"
    if "}{" in line or "\r" in line:
        return (
            f"several objects are on one line, and {need}: were the line ends lost? "
            "(curl -d drops them: send the file with --data-binary)"
        )
    if isinstance(first, str) and first.lstrip().startswith(("{", "[")):
        return f"the objects are in quotes, and {need}: they were encoded twice"
    if line.startswith("{'"):
        return f"{PYTHON_NOTATION}, and {need}"
    if line[0] not in "{[" and any(separator in line for separator in SEPARATORS):
        return f"no line is a JSON object, and {need}: if the file is CSV, name it .csv"
    detail = f" ({first.limit})" if isinstance(first, FieldError) and first.limit else ""
    return f"no line is a JSON object{detail}: {need}"


def _stripped(line: str) -> str:
    return line.strip(BLANK)


def _parse(line: str) -> object:
    try:
        return parse_json(line)
    except ValueError as error:
        return FieldError("malformed", limit=f"not a JSON object: {error}")


class JsonArrayTable(_JsonTable):
    """One JSON array of objects, or a single object."""

    ready = False

    def __init__(
        self,
        scorer: Scorer,
        options: Options,
        limits: Limits,
        output: Output,
        items: tuple[object, ...] | None = None,
    ) -> None:
        super().__init__(scorer, options, limits, output)
        self._parsed = items
        self._reader = ArrayReader()
        self._collected: list[object] = []
        """Items of the next block."""
        self._start = self._end = 0
        self._first = True

    def jump(self, offset: int) -> bool:
        raise RuntimeError("an array is read whole")

    def feed(self, chunk: bytes) -> Iterator[Block]:
        return self._collect(self._reader.feed(chunk))

    def finish(self) -> Iterator[Block]:
        if self._parsed is None:
            yield from self._collect(self._reader.finish())
        else:
            yield from self._collect((item, end) for end, item in enumerate(self._parsed, 1))
        if self._collected or self._first:
            yield self._block()

    def _collect(self, items: Iterator[tuple[object, int]]) -> Iterator[Block]:
        for item, self._end in items:
            self._collected.append(item)
            size = self._end - self._start
            if len(self._collected) >= self._limits.rows or size >= self._limits.size:
                yield self._block()

    def _block(self) -> Block:
        block = Block(self._start, self._end, self._first, NO_LINES, self._collected)
        self._collected = []
        self._start, self._first = self._end, False
        return block

    def count_rows(self, block: Block) -> int:
        return len(block.items)

    def _items(self, block: Block) -> Sequence[object]:
        items = block.items.copy()
        block.items.clear()
        return items
