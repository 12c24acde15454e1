"""Which table reads which format, and what it writes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from shared.message import Format

if TYPE_CHECKING:
    from shared.scoring import Scorer
    from shared.tables import Limits, Options, Table


def open_table(
    kind: Format,
    scorer: Scorer,
    options: Options,
    limits: Limits,
    items: tuple[object, ...] | None = None,
) -> Table:
    """A table for a file of this format; `items` are records that were parsed already."""
    # Polars takes as long to import as half of the rest: not every message needs it.
    if kind == "csv":
        from shared.csv_table import CsvTable

        return CsvTable(scorer, options, limits)
    from shared.json_table import JsonArrayTable, JsonLinesTable

    if kind == "json":
        return JsonArrayTable(scorer, options, limits, items)
    return JsonLinesTable(scorer, options, limits)


def preload() -> None:
    """Import what `open_table` would import for the first file."""
    # What is missing is told by the file that needs it.
    with suppress(ImportError):
        import shared.csv_table
        import shared.json_table  # noqa: F401  # for later


def output_format(kind: Format) -> Literal["csv", "jsonl"]:
    """CSV for CSV, JSON lines for both forms of JSON."""
    return "csv" if kind == "csv" else "jsonl"
