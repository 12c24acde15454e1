"""Texts about names and whole files, for the summary, the API and the command line alike."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Sequence

from shared.records.coding import Categories, coding_warnings, distribution_warnings
from shared.records.counts import OTHER_ENCODING, Counts
from shared.records.errors import AnotherCoding
from shared.records.names import looks_like_a_name
from shared.records.schema import FieldTable, printable

PLAIN_ID = "id"
"""A name for a record's own id, or for the number of a row."""
NAMED = 10
"""Most names in one sentence."""
LARGE = 64 << 20
"""Bytes of a file from which workers share it, by default."""


def misnamed(
    names: Iterable[str], absent: Collection[str], table: FieldTable, noun: str = "column"
) -> str:
    """Why columns or keys of these names refuse a file; empty if they do not.

    They mark another coding, or clearly mean a field (or the record's id) that is `absent` under
    its own name. One text names them all, with the mapping that fixes them.
    """
    shown = [name for name in names if looks_like_a_name(name)]
    markers = [name for name in shown if name.strip().lower() in table.other_columns]
    near = table.near_all([name for name in shown if name not in markers], absent)
    return "; ".join(filter(None, (_marked(markers, table, noun), _suggested(near, noun))))


def check_keys(items: Iterable[object], table: FieldTable) -> None:
    """Raise `AnotherCoding` if a record has a key that marks another coding."""
    keys = {key for item in items if isinstance(item, dict) for key in item}
    marks = [key for key in keys if key.strip().lower() in table.other_columns]
    marked = misnamed(sorted(marks), (), table, "key")
    if marked:
        raise AnotherCoding(marked)


def _marked(markers: Sequence[str], table: FieldTable, noun: str) -> str:
    by_reason: dict[str, list[str]] = {}
    for name in markers:
        reason = table.other_columns[name.strip().lower()]
        by_reason.setdefault(reason, []).append(f"`{name}`")
    return "; ".join(
        f"{noun if len(names) == 1 else f'{noun}s'} {', '.join(names)}: {reason}"
        for reason, names in by_reason.items()
    )


def _suggested(near: dict[str, str], noun: str) -> str:
    if not near:
        return ""
    meant = ", ".join(f"`{name}` (did you mean `{field}`?)" for name, field in near.items())
    flags = " ".join(f"--rename {shlex.quote(f'{old}={new}')}" for old, new in near.items())
    mapping = json.dumps({"rename": near}, ensure_ascii=False)
    if len(near) == 1:
        subject, yes, no = f"the {noun} {meant} is not a field", "If it is meant so", "it"
    else:
        subject, yes, no = f"{len(near)} {noun}s are not fields: {meant}", "If so", "them"
    return (
        f"{subject}. {yes}, send the file with {flags} (in the options of an envelope: {mapping}; "
        f"in the API: the same pairs as query parameters `rename`); if not, rename or remove {no}"
    )


def column_notes(
    others: Sequence[str], absent: Sequence[str], table: FieldTable, *, has_id: bool
) -> tuple[str, ...]:
    """Sentences about columns that are not fields and fields that are absent."""
    notes: list[str] = []
    unused = [name for name in absent if table.by_name[name].used]
    if unused and others:
        ignored = (
            "1 column is not a field and was"
            if len(others) == 1
            else (f"{len(others)} columns are not fields and were")
        )
        notes.append(
            f"{ignored} ignored, and the file has no column {_listed(unused)}: "
            "if a column holds such a field under another name, rename it"
        )
    plain = next((name for name in others if name.lower() == PLAIN_ID), None)
    if plain and not has_id:
        notes.append(
            f"the column `{plain}` was ignored: if it is the record's own id, send the file with "
            f"--rename {plain}={table.record_id} (or {table.record_id} as the column's name)"
        )
    return tuple(notes)


WINDOWS = (
    "some rows are not UTF-8 and were read as Windows-1252: only text can be affected, "
    "so check the umlauts of ids"
)


def batch_warnings(
    notes: Sequence[str],
    counts: Counts,
    categories: Categories,
    table: FieldTable,
    *,
    coding_checked: bool,
) -> list[str]:
    """Warnings about a whole batch that succeeded, for summary, API and command line."""
    empty = ["the file has no rows: nothing was scored"] if counts.rows == 0 else []
    encoding = [WINDOWS] if counts.marks & OTHER_ENCODING else []
    unlike = [] if coding_checked else distribution_warnings(categories, table)
    return [*empty, *notes, *encoding, *coding_warnings(counts, table), *unlike]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{printable(name)}`" for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def sharing_advice(size: int, file_format: str, *, packed: bool) -> list[str]:
    """A hint about a large file that cannot be shared; `size` is in bytes, as it is stored."""
    if size < LARGE or (file_format in ("csv", "jsonl") and not packed):
        return []
    if file_format == "parquet":
        return [
            "one worker scores this large file alone if the result is Parquet, too: for the speed "
            "of all workers, ask for a CSV file (--output-format csv)"
        ]
    form = "gzip" if packed else {"json": "a JSON array"}.get(file_format, f"a {file_format} file")
    return [
        f"one worker scores this large file alone, because {form} cannot be cut into parts: "
        "for the speed of all workers, send plain CSV or JSON Lines, or several files"
    ]
