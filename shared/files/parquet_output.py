"""Scores as Parquet, with types: a row group for each block, and the footer after the last one."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shared.files.csv_output import as_series, result_columns
from shared.files.output import Shown
from shared.records.columns import Outcome


class ParquetOutput:
    """Writes Parquet.

    The footer lists the row groups and their offsets: only the writer of all of them can write it.
    """

    resumes = False

    def __init__(self, columns: Sequence[str]) -> None:
        """`columns`: names of those that every result has."""
        self._columns = columns
        self._file = _Pending()
        self._writer: pq.ParquetWriter | None = None

    def write(self, outcome: Outcome, shown: Shown, first_row: int, *, first: bool) -> bytes:
        names = [*self._columns]
        columns = result_columns(outcome, as_series(shown.ids), first_row)
        if shown.inputs is not None:
            names += [f"input_{name}" for name in shown.inputs.names]
            columns += [_typed(as_series(column)) for column in shown.inputs.columns()]
        frame = pl.DataFrame(
            [column.alias(name) for column, name in zip(columns, _unique(names), strict=True)]
        )
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        return self._write(table)

    def _write(self, table: pa.Table) -> bytes:
        if self._writer is None:
            # Arrow's own schema would say `large_string`, which some readers cannot read.
            # Texts of warnings and errors repeat; for other columns a dictionary costs time.
            self._writer = pq.ParquetWriter(
                self._file,
                table.schema,
                store_schema=False,
                use_dictionary=["warnings", "error"],
            )
        self._writer.write_table(table)
        return self._file.take()

    def finish(self) -> bytes:
        if self._writer is not None:
            self._writer.close()
        return self._file.take()


def read_result(content: bytes) -> Iterator[dict[str, Any]]:
    """Rows of a whole result."""
    for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches():
        yield from batch.to_pylist()


def _typed(column: pl.Series) -> pl.Series:
    """A column whose type is the same in all blocks."""
    return column.cast(pl.String) if column.dtype in (pl.Null, pl.Categorical) else column


def _unique(names: Iterable[str]) -> list[str]:
    """The names, each of them once: a second `note` becomes `note_2`."""
    unique: dict[str, None] = {}
    for name in names:
        new, number = name, 1
        while new in unique:
            number += 1
            new = f"{name}_{number}"
        unique[new] = None
    return list(unique)


class _Pending(io.RawIOBase):
    """A file that is only written: `take` hands out what is new."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, piece: bytes) -> int:  # type: ignore[override]  # only Arrow writes here
        self._pieces.append(bytes(piece))
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content
