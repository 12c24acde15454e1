"""Tells records from other JSON: wrappers, arrays of columns, JSON inside a string.

Each reason says what was sent and what to send instead, and names keys only if they look like
names.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from shared.records.names import looks_like_a_name
from shared.records.strict_json import DuplicateKeys

if TYPE_CHECKING:
    from shared.records.schema import FieldTable

COMPARED = 100
"""Most keys that are compared with the names of fields; with more, an object is not a record."""

NO_OBJECT = "a record must be a JSON object"


def why_no_record(item: object, table: FieldTable) -> str | None:
    """Why parsed JSON is not a record, with the fix; None: it may be one.

    At least one of its keys is a field, or is named like one. A record may still be rejected.
    """
    if isinstance(item, str):
        return f"{NO_OBJECT}, and this is text in quotes" + (
            ", which holds JSON: it was encoded twice, send the inner JSON itself"
            if item.lstrip().startswith(("{", "["))
            else ""
        )
    if isinstance(item, list):
        return f"{NO_OBJECT}, and this is an array: send objects with the names of the fields"
    if not isinstance(item, dict):
        return NO_OBJECT
    if not item.keys() & table.known_keys:
        is_close = any(table.near(key) in table.by_name for key in islice(item, COMPARED))
        is_close = is_close or not item.keys().isdisjoint(table.other_columns)
        return None if is_close else _wrapper(item, table)
    values = [value for key, value in item.items() if key in table.known_keys]
    if all(isinstance(value, dict) for value in values):
        return (
            "one object with an object for each field: send an array of records "
            '(in pandas: orient="records")'
        )
    if all(isinstance(value, list) for value in values):
        return (
            "one object with an array for each field: send one object with plain values "
            "for each record (in R: auto_unbox = TRUE)"
        )
    return None


def _wrapper(item: Mapping[str, object], table: FieldTable) -> str:
    """Why an object without a field is not a record: perhaps it holds some."""
    records = [key for key, value in item.items() if _is_record(value, table)]
    if len(records) > 1:
        return "one object with a record under each key: send an array of the records"
    for key, value in item.items():
        if isinstance(value, list) and value and all(_is_record(held, table) for held in value):
            return f"one object with {_named(key)} holds an array: send the array itself"
    if records:
        return f"one object with {_named(records[0])} holds a record: send the record itself"
    if "$content" in item:
        return "one object with the key `$content`, which holds a file: send the file itself"
    for key, value in item.items():
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            return f"one object with {_named(key)} holds JSON as text: send the inner JSON itself"
    return (
        "one object, none of whose keys is a field: send objects with the names of the fields "
        '(in pandas: orient="records")'
    )


def _is_record(value: object, table: FieldTable) -> bool:
    return isinstance(value, dict) and bool(value.keys() & table.known_keys)


def _named(key: str) -> str:
    return f"the key `{key}`, which" if looks_like_a_name(key) else "a key that"


def rename_keys(item: object, rename: Mapping[str, str]) -> object:
    """The record with its keys renamed; a key that then appears twice is marked."""
    if not isinstance(item, dict) or not item.keys() & rename.keys():
        return item
    renamed: dict[str, object] = {}
    twice = [*getattr(item, "names", ())]
    for key, value in item.items():
        new = rename.get(key, key)
        if new in renamed:
            twice.append(new)
        renamed[new] = value
    if not twice:
        return renamed
    marked = DuplicateKeys(renamed)
    marked.names = tuple(dict.fromkeys(twice))
    return marked
