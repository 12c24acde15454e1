"""JSON arrays and JSON lines in, JSON lines out.

Read strictly: NaN and Infinity are not JSON, and a duplicate key is a fault.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from shared.files.advice import check_keys, misnamed
from shared.files.base import (
    NO_LINES,
    ROW_BYTES,
    ROW_TOO_LONG,
    SEPARATORS,
    Block,
    Limits,
    Scored,
    decode,
    output_columns,
    strip_bom,
)
from shared.files.json_columns import Records, read_records
from shared.files.lines import LineSplitter, count_rows
from shared.files.options import Options
from shared.records.columns import Outcome, score_columns
from shared.records.errors import BadFile, FieldError
from shared.records.schema import RECORD_ID, printable
from shared.records.scoring import Scorer
from shared.records.shape import NO_OBJECT, rename_keys, why_no_record
from shared.records.strict_json import BLANK, parse_flat_lines, parse_item, parse_json

ARRAY_BYTES = 64 << 20
"""An array must be held whole to be read; longer ones belong into JSON lines."""

PYTHON_NOTATION = "the records are in Python's notation, not JSON: write them with json.dumps"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """A block's items, and what became of each."""

    first: bool
    """As of the block."""
    records: Records
    items: Sequence[object]


class _JsonTable:
    """What both forms of JSON share: scoring items and writing lines."""

    ignored_columns: tuple[str, ...] = ()
    unnamed_columns: int = 0
    notes: tuple[str, ...] = ()
    absent_fields: tuple[str, ...] = ()

    def __init__(self, scorer: Scorer, options: Options, limits: Limits) -> None:
        self._scorer = scorer
        self._include_input = options.include_input
        self._rename = options.rename
        self._limits = limits

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
        return Rows(block.first, records, given)

    def _check_first(self, items: Sequence[object], rejected: Sequence[object]) -> None:
        """Raise `BadFile` if the file's first records show that it holds something else."""
        table = self._scorer.table
        if rejected:
            keys = {key for item in items if isinstance(item, dict) for key in item}
            reasons = [why_no_record(item, table) for item in items]
            # An object with an `id` and no field is another thing, not a record with a wrong key.
            ids = () if all(reasons) else (RECORD_ID,)
            absent = [name for name in (*table.by_name, *ids) if name not in keys]
            fault = misnamed(sorted(keys - table.known_keys), absent, table, "key")
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
        names = output_columns(self._scorer.kind)
        lines = _lines(outcome, names, records.ids, first_row)
        if self._include_input:
            lines = [
                f"{line[:-1]},{_inputs(item)[1:]}" if isinstance(item, dict) and item else line
                for line, item in zip(lines, rows.items, strict=True)
            ]
        content = "".join(f"{line}\n" for line in lines).encode()
        return Scored(content, outcome)


def _lines(
    outcome: Outcome, names: Sequence[str], ids: Sequence[str | None], first_row: int
) -> list[str]:
    """One object for each row, put together from texts: an encoder takes four times as long."""
    members = [f'"{name}":%s' for name in names]
    rejected = "{" + ",".join(members) + "}"
    scored = "{" + ",".join([*members[:-2], f'"{names[-2]}":null', f'"{names[-1]}":null']) + "}"
    shown = ["null" if record_id is None else _encode(record_id) for record_id in ids]
    numbers = range(first_row, first_row + len(shown))
    answers = (_json_texts(values) for values in outcome.answers)
    lines = list(map(scored.__mod__, zip(numbers, shown, *answers, strict=True)))
    for index, text in outcome.warnings.items():
        lines[index] = lines[index].replace('"warnings":null', f'"warnings":{_encode(text)}')
    nulls = ["null"] * (len(names) - 3)
    for index, text in outcome.errors.items():
        lines[index] = rejected % (first_row + index, shown[index], *nulls, _encode(text))
    return lines


def _json_texts(values: NDArray[Any]) -> list[Any]:
    """A column of the kind of answer as JSON shows it."""
    match values.dtype.kind:
        case "f":  # as text, a float32 has the fewest digits that give it back
            texts: list[Any] = values.astype(str).tolist()
            return texts
        case "U":
            return [_encode(text) for text in values.tolist()]
        case _:
            return list(values.tolist())


def _inputs(item: dict[str, object]) -> str:
    """The input's members, as they are repeated in the output."""
    return _dump({f"input_{key}": value for key, value in item.items()})


def _dump(line: dict[str, object]) -> str:
    try:
        text = _encode(line)
    except ValueError:  # 1e999 was read as infinity, which JSON cannot say
        text = _encode(_finite(line))
    if "\\ud" in text:  # half of a pair has no UTF-8: strict readers refuse the whole file
        whole = json.dumps(_finite(line), ensure_ascii=False).encode(errors="replace")
        text = _encode(json.loads(whole))
    return text


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLinesTable(_JsonTable):
    """One JSON object a line."""

    def __init__(self, scorer: Scorer, options: Options, limits: Limits) -> None:
        super().__init__(scorer, options, limits)
        self._head = b""
        self._splitter: LineSplitter | None = None

    @property
    def ready(self) -> bool:
        return self._splitter is not None

    def jump(self, offset: int) -> None:
        self._open(whole=True)
        self._lines().jump(offset)

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

    def _items(self, block: Block) -> list[object]:
        if block.lines.too_long:
            return [ROW_TOO_LONG]
        lines = decode(block.lines.content, block.start).split("\n")
        lines = [line for line in map(_stripped, lines) if line]
        items: list[object] = [*(parse_flat_lines(lines) or map(_parse, lines))]
        if block.first and items and not any(isinstance(item, dict) for item in items):
            raise BadFile(_why_no_lines(lines, items[0]))
        return items


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
    """One JSON array of objects, or a single object; held whole, read item by item."""

    ready = False

    def __init__(
        self,
        scorer: Scorer,
        options: Options,
        limits: Limits,
        items: tuple[object, ...] | None = None,
    ) -> None:
        super().__init__(scorer, options, limits)
        self._parsed = items
        self._content = bytearray()
        self._first = True

    def jump(self, offset: int) -> None:
        raise RuntimeError("an array is read whole")

    def feed(self, chunk: bytes) -> Iterator[Block]:
        self._content += chunk
        if len(self._content) > ARRAY_BYTES:
            raise BadFile(
                f"a JSON array may have {ARRAY_BYTES >> 20} MiB: send JSON lines (.jsonl) instead"
            )
        return iter(())

    def finish(self) -> Iterator[Block]:
        items: list[object] = []
        start = end = 0
        for item, end in self._read_all():
            items.append(item)
            if len(items) >= self._limits.rows or end - start >= self._limits.size:
                yield self._block(start, end, items)
                items, start = [], end
        if items or self._first:
            yield self._block(start, end, items)

    def _read_all(self) -> Iterator[tuple[object, int]]:
        if self._parsed is not None:
            return ((item, position) for position, item in enumerate(self._parsed, 1))
        del self._content[: len(self._content) - len(strip_bom(self._content))]
        text = decode(self._content, 0)
        self._content.clear()
        return _array_items(text)

    def _block(self, start: int, end: int, items: list[object]) -> Block:
        block = Block(start, end, self._first, NO_LINES, tuple(items))
        self._first = False
        return block

    def count_rows(self, block: Block) -> int:
        return len(block.items)

    def _items(self, block: Block) -> Sequence[object]:
        return block.items


def _array_items(text: str) -> Iterator[tuple[object, int]]:
    """Items of a JSON array, and the position after each. Raises `BadFile` that names the item."""
    position = _skip_blank(text, 0)
    if position == len(text):
        raise BadFile("the file is empty: an array of JSON objects is needed")
    if text[position] in '{"':
        item, position = _item(text, position, 1)
        yield item, position
    elif text[position] == "[":
        number = 0
        position = _skip_blank(text, position + 1)
        while not text.startswith("]", position):
            if number:
                if not text.startswith(",", position):
                    raise BadFile(
                        f"not a JSON array: a comma or ] is missing after record {number}"
                    )
                position = _skip_blank(text, position + 1)
            number += 1
            item, position = _item(text, position, number)
            yield item, position
            position = _skip_blank(text, position)
        position += 1
    else:
        raise BadFile(
            "the file is not JSON: an array of objects is needed (if it is CSV, name it .csv)"
        )
    if _skip_blank(text, position) < len(text):
        raise BadFile(
            "there is more after the JSON: send one array, or name the file .jsonl "
            "if it has one object on each line"
        )


def _item(text: str, start: int, number: int) -> tuple[object, int]:
    try:
        item, end = parse_item(text, start)
    except ValueError as error:
        hint = f" ({PYTHON_NOTATION})" if text.startswith("{'", start) else ""
        raise BadFile(f"record {number} is not JSON: {error}{hint}") from error
    return ROW_TOO_LONG if end - start > ROW_BYTES else item, end


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position
