"""Reads lines of flat JSON objects as columns, by Arrow, where a key's values have one type.

Arrow notices duplicate keys and keys that are not fields. It is asked only about lines that hold
one object each, without nesting. The reader of single items decides about everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as pj

from shared.files.base import Lines
from shared.files.lines import RETURN
from shared.files.values import TypedRows, typed_rows
from shared.records.schema import FieldTable
from shared.records.strict_json import parse_flat_lines

SAMPLE = 50
"""Lines that tell the types of the columns; the others must agree."""


def read_lines(lines: Lines, table: FieldTable) -> TypedRows | None:
    """Read UTF-8 without blank lines. None: these lines cannot be read as columns."""
    content, count = lines.content, len(lines.ends)
    # Arrow takes NaN and Infinity for numbers.
    if count == 0 or not _are_flat_objects(lines) or b"NaN" in content or b"Inf" in content:
        return None
    head = content[: lines.ends[:SAMPLE][-1]]
    sample = parse_flat_lines([line.decode() for line in head.splitlines()])
    if sample is None:
        return None
    try:
        found = pj.read_json(
            pa.BufferReader(content),
            pj.ReadOptions(use_threads=False, block_size=len(content)),
            pj.ParseOptions(_schema(sample, table), unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None
    frame = pl.DataFrame(found)
    rows = typed_rows(dict(zip(frame.columns, frame, strict=True)), count, table)
    # An object without any field is not a record.
    return None if np.isnan(rows.values).all(axis=0).any() else rows


def _are_flat_objects(lines: Lines) -> bool:
    """Whether each line is one object, if it is JSON: brackets only at its start and end.

    Arrow would crash on a `null` next to an object.
    """
    content, ends = lines.content, lines.ends
    bytes_ = np.frombuffer(content, np.uint8)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    last = ends - np.where(bytes_[ends - 2] == RETURN, 3, 2)
    return bool(
        (bytes_[starts] == ord("{")).all() and (bytes_[last] == ord("}")).all()
    ) and content.count(b"{") == content.count(b"}") == len(ends)


def _schema(sample: Sequence[Mapping[str, object]], table: FieldTable) -> pa.Schema:
    """Types of all known keys. Numbers are floats, except those of ids."""
    types = {bool: pa.bool_(), str: pa.string()}
    columns = [(field.name, types, pa.float64()) for field in table.fields]
    columns.append((table.record_id, {int: pa.int64()}, pa.string()))
    return pa.schema(
        (name, known.get(type(_first(sample, name)), usual)) for name, known, usual in columns
    )


def _first(sample: Sequence[Mapping[str, object]], name: str) -> object:
    return next((record[name] for record in sample if record.get(name) is not None), None)
