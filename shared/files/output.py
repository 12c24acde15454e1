"""The content of a result in any format: scores as columns, ids, and the input's own columns.

Each `<format>_output` writes it, and every reader can hand over to any of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeAlias

from shared.files.dialect import PLAIN, Dialect

if TYPE_CHECKING:
    import polars as pl

    from shared.records.columns import Outcome

Column: TypeAlias = "pl.Series | Sequence[str | None]"
"""A Polars series, or a list of texts where Polars was not needed."""


class Inputs(Protocol):
    """The input's columns, to be repeated in the result."""

    @property
    def names(self) -> Sequence[str]:
        """Names as they were in the input."""
        ...

    def columns(self) -> Sequence[Column]:
        """One column for each name."""
        ...

    def records(self) -> Sequence[object]:
        """One object for each row, with its members as the input named them."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Columns:
    """Inputs of a file with columns."""

    names: Sequence[str]
    series: Sequence[pl.Series]

    def columns(self) -> Sequence[pl.Series]:
        return self.series

    def records(self) -> Sequence[object]:
        rows = zip(*(series.to_list() for series in self.series), strict=True)
        return [dict(zip(self.names, row, strict=True)) for row in rows]


@dataclass(frozen=True, slots=True, repr=False)
class Items:
    """Inputs of a JSON file: `names` are the keys that a record may have."""

    names: Sequence[str]
    items: Sequence[object]

    def columns(self) -> Sequence[Column]:
        records = [item if isinstance(item, dict) else {} for item in self.items]
        return [[_text(record.get(name)) for record in records] for name in self.names]

    def records(self) -> Sequence[object]:
        return self.items


def as_json(value: object) -> str | float:
    """A typed value that JSON does not know, for its encoders."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal() if Decimal(str(float(value))) == value:
            return float(value)
        case _:
            return str(value)


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """Columns of a block's rows next to their scores."""

    ids: Column
    """As text; None where a row has no id, or one that may not be shown."""
    inputs: Inputs | None = None
    plain: bool = False
    """Whether no id could run as a formula in a spreadsheet."""
    dialect: Dialect = PLAIN
    """For results in CSV."""


class Output(Protocol):
    """Writes one result, block by block and in order."""

    @property
    def resumes(self) -> bool:
        """Whether a block's bytes depend on that block alone.

        If not, a delivery that resumes must score all rows again, but stages only what is missing.
        """
        ...

    def write(self, outcome: Outcome, shown: Shown, first_row: int, *, first: bool) -> bytes:
        """A block's rows, of which the first has this number. The `first` block has the header."""
        ...

    def finish(self) -> bytes:
        """The bytes after the last block."""
        ...
