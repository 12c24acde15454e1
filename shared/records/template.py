"""Rows of a file to fill in, from the field table: units and words, the header, an example."""

from __future__ import annotations

from typing import Any

from shared.records.artifact import Manifest
from shared.records.schema import FieldSpec, FieldTable


def note_row(table: FieldTable) -> list[str]:
    """One note per column: the values it may hold. Readers skip it, since it begins with `#`."""
    return ["# your own id", *map(_note, table.fields)]


def header_row(table: FieldTable) -> list[str]:
    """Names of the columns: the record's own id, then the fields."""
    return [table.record_id, *(field.name for field in table.fields)]


def example_row(manifest: Manifest) -> list[object]:
    """The golden record with the most known values; words replace codes."""
    records = [golden.record for golden in manifest.golden]
    record = max(records, key=lambda one: sum(value is not None for value in one.values()))
    fields = manifest.fields.fields
    return ["example-1", *(_cell(field, record.get(field.name)) for field in fields)]


def _note(field: FieldSpec) -> str:
    if field.kind == "number":
        return field.limit
    return " or ".join(
        str(choice.code) if choice.word is None else choice.word for choice in field.choices
    )


def _cell(field: FieldSpec, value: Any) -> object:
    words = {choice.code: choice.word for choice in field.choices}
    return None if value is None else words.get(value) or value
