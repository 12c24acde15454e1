"""JSON arrays and JSON lines in, JSON lines out.

Read strictly: NaN and Infinity are no JSON, and a key that stands twice in a record is a fault, not
a choice. Each record goes to the reference reader, `FieldTable.read`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from shared.errors import BadFile, RecordRejected
from shared.fields import RECORD_ID, Record, Rejection, printable
from shared.lines import LineSplitter
from shared.scoring import Scorer, shortest
from shared.strict_json import DuplicateKeys, decoder, harmless, parse_json
from shared.tables import (
    NO_LINES,
    ROW_BYTES,
    Block,
    Counts,
    Limits,
    Options,
    Scored,
    decode,
    strip_bom,
)

ARRAY_BYTES = 64 << 20
"""An array must be held whole to be read; longer ones belong into JSON lines."""

BLANK = " \t\r\n"


class _JsonTable:
    """What both forms of JSON share: scoring items and writing lines."""

    ignored_columns: tuple[str, ...] = ()
    absent_fields: tuple[str, ...] = ()

    def __init__(self, scorer: Scorer, options: Options, limits: Limits) -> None:
        self._scorer = scorer
        self._include_input = options.include_input
        self._limits = limits

    def _items(self, block: Block) -> Iterable[object]:
        raise NotImplementedError

    def score(self, block: Block, first_row: int) -> Scored:
        items = list(self._items(block))
        read = [self._read(item) for item in items]
        records = [r for r in read if isinstance(r, Record)]
        used = self._scorer.table.used
        rows = np.array([[r.values[i] for i in used] for r in records], np.float32)
        found = iter(self._scorer.probabilities_each(rows.reshape(len(records), len(used))))
        counts = Counts(len(items))
        lines: list[str] = []
        for row, (item, result) in enumerate(zip(items, read, strict=True), first_row):
            rejections: Sequence[Rejection] = () if isinstance(result, Record) else result
            probability = next(found) if isinstance(result, Record) else np.float32(np.nan)
            if isinstance(result, Record) and probability != probability:
                rejections = (Rejection("model_error"),)
            warnings = result.warnings if isinstance(result, Record) and not rejections else ()
            counts.warned += bool(warnings)
            if rejections:
                counts.reject(rejections)
            line: dict[str, object] = {
                "row": row,
                "patient_id": _shown_id(item, result),
                "probability": None if rejections else shortest(probability),
                "prediction": None if rejections else int(probability >= self._scorer.threshold),
                "warnings": "; ".join(warnings) or None,
                "error": "; ".join(map(str, rejections)) or None,
            }
            if self._include_input and isinstance(item, dict):
                line |= {f"input_{key}": value for key, value in item.items()}
            lines.append(_dump(line))
        lines.append("")
        return Scored("\n".join(lines).encode(), counts)

    def _read(self, item: object) -> Record | Sequence[Rejection]:
        if isinstance(item, Rejection):
            return (item,)
        if isinstance(item, DuplicateKeys):
            return tuple(
                Rejection("duplicate_field", printable(name)) for name in dict.fromkeys(item.names)
            )
        if not isinstance(item, dict):
            return (Rejection("malformed", limit="a record must be a JSON object"),)
        try:
            return self._scorer.table.read(item)
        except RecordRejected as error:
            return error.rejections


def _dump(line: dict[str, object]) -> str:
    try:
        return json.dumps(line, separators=(",", ":"), allow_nan=False)
    except ValueError:  # 1e999 was read as infinity, which JSON cannot say
        return json.dumps(
            {k: None if isinstance(v, float) else v for k, v in line.items()},
            separators=(",", ":"),
        )


def _shown_id(item: object, result: object) -> str | None:
    """The id of a record, also of a rejected one when the id itself is sound."""
    if isinstance(result, Record):
        return result.patient_id
    if isinstance(item, dict) and not isinstance(item, DuplicateKeys):
        value = item.get(RECORD_ID)
        faulty = isinstance(result, tuple) and any(r.field == RECORD_ID for r in result)
        if not faulty and isinstance(value, str | int) and not isinstance(value, bool):
            return str(value) or None
    return None


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
        if self._splitter is None:
            raise RuntimeError("the file's head was not read yet")
        self._splitter.jump(offset)

    def feed(self, chunk: bytes) -> Iterator[Block]:
        if self._splitter is None:
            self._head += chunk
            if len(self._head) < 3:
                return
            chunk = self._begin()
        if self._splitter is not None:
            yield from self._splitter.feed(chunk)

    def finish(self) -> Iterator[Block]:
        if self._splitter is None:
            if not self._head.strip():
                raise BadFile("the file is empty: one JSON object a line is needed")
            rest = self._begin()
            yield from self._splitter_or_fail().feed(rest)
        yield from self._splitter_or_fail().finish()

    def _splitter_or_fail(self) -> LineSplitter:
        if self._splitter is None:
            raise RuntimeError("the file's head was not read yet")
        return self._splitter

    def _begin(self) -> bytes:
        rest = strip_bom(self._head)
        self._splitter = LineSplitter(self._limits, len(self._head) - len(rest), None)
        self._head = b""
        return rest

    def _items(self, block: Block) -> Iterator[object]:
        if block.lines.too_long:
            yield Rejection("too_long", limit=f"{ROW_BYTES} bytes")
            return
        start = 0
        for end in block.lines.ends.tolist():
            line = block.lines.content[start:end].strip()
            if line:
                text = decode(line, block.start + start)
                try:
                    item = parse_json(text)
                except ValueError as error:
                    item = Rejection("malformed", limit=f"not a JSON object: {error}")
                yield item
            start = end


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
            return ((item, place) for place, item in enumerate(self._parsed, 1))
        text = decode(strip_bom(bytes(self._content)), 0)
        self._content.clear()
        if not text.strip(BLANK):
            raise BadFile("the file is empty: an array of JSON objects is needed")
        return _array_items(text)

    def _block(self, start: int, end: int, items: list[object]) -> Block:
        block = Block(start, end, self._first, NO_LINES, tuple(items))
        self._first = False
        return block

    def _items(self, block: Block) -> Iterable[object]:
        return block.items


def _array_items(text: str) -> Iterator[tuple[object, int]]:
    """Items of a JSON array with the place after each. Raises `BadFile` with the item's number."""
    place = _skip_blank(text, 0)
    if text[place] != "[":
        item, place = _item(text, place, 1)
        yield item, place
        _expect_end(text, place)
        return
    place = _skip_blank(text, place + 1)
    number = 0
    if text.startswith("]", place):
        _expect_end(text, place + 1)
        return
    while True:
        number += 1
        item, place = _item(text, place, number)
        yield item, place
        place = _skip_blank(text, place)
        if text.startswith("]", place):
            _expect_end(text, place + 1)
            return
        if not text.startswith(",", place):
            raise BadFile(f"not a JSON array: a comma or ] is missing after record {number}")
        place = _skip_blank(text, place + 1)


def _item(text: str, place: int, number: int) -> tuple[object, int]:
    try:
        item: Any
        item, end = decoder.raw_decode(text, place)
    except RecursionError as error:
        raise BadFile(f"record {number} is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadFile(
            f"record {number} is not JSON: {error.msg} at character {error.pos}"
        ) from error
    except ValueError as error:
        raise BadFile(f"record {number} is not JSON: {harmless(error)}") from error
    return item, end


def _skip_blank(text: str, place: int) -> int:
    while place < len(text) and text[place] in BLANK:
        place += 1
    return place


def _expect_end(text: str, place: int) -> None:
    if _skip_blank(text, place) < len(text):
        raise BadFile("something stands behind the JSON: one array, or one record a line (.jsonl)")
