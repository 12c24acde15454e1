"""Parquet in: row group by row group, only the columns that are needed, columns by name.

A stored file is read in parts, since its table of contents is at its end; a small one may also be
fed whole. A block is one batch of rows of a row group, and its offsets count rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shared.files.base import NO_LINES, ROW_BYTES, Block, Bounds, Limits, Scored, Seekable
from shared.files.csv_header import Headed, Header, match_columns
from shared.files.options import Options
from shared.files.output import Columns, Output, Shown
from shared.files.values import typed_rows
from shared.records.columns import Rejected, Values, score_columns
from shared.records.errors import BadFile
from shared.records.schema import printable
from shared.records.scoring import Scorer

WHOLE_BYTES = 64 << 20
"""Most bytes of a file that is fed whole."""
GROUP_BYTES = 16 << 20
"""Packed bytes of a row group that are fetched at once; of a larger one, pieces of each column."""
PIECE = 1 << 20
"""Bytes of such a piece."""
BATCH_BYTES = 64 << 20
"""Most unpacked bytes of a batch: larger rows make smaller batches."""


READABLE = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal32,
    pa.types.is_decimal64,
    pa.types.is_decimal128,
    pa.types.is_boolean,
    pa.types.is_null,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)
"""Types of a field's values, and of ids; a dictionary may hold them, too."""


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """A block's rows, read and checked."""

    first: bool
    """Whether this is the file's first block."""
    values: Values
    rejected: Rejected
    shown: Shown


class ParquetTable(Headed):
    """A Parquet file."""

    ready = False

    def __init__(self, scorer: Scorer, options: Options, limits: Limits, output: Output) -> None:
        self.output = output
        self._scorer = scorer
        self._options = options
        self._limits = limits
        self._content = bytearray()

    def jump(self, offset: int) -> bool:
        raise RuntimeError("a Parquet file that is fed is read whole")

    def feed(self, chunk: bytes) -> Iterator[Block]:
        self._content += chunk
        if len(self._content) > WHOLE_BYTES:
            raise BadFile(f"a Parquet file may have {WHOLE_BYTES >> 20} MiB here")
        return iter(())

    def finish(self) -> Iterator[Block]:
        yield from self.blocks(io.BytesIO(self._content), 0)

    def blocks(self, file: Seekable, offset: int) -> Iterator[Block]:
        """The first block, and those from `offset` on, of a file that is read where needed."""
        parquet = self._open(file)
        if offset:
            yield next(self._blocks_from(0, file, parquet))
        yield from self._blocks_from(offset, file, parquet)

    def blocks_between(self, file: Seekable, start: int, end: int) -> Iterator[Block]:
        """The blocks from `start` to `end`, both of which are ends of blocks."""
        for block in self._blocks_from(start, file, self._open(file)):
            yield block
            if block.end >= end:
                return

    def bounds(self, file: Seekable, offset: int) -> Iterator[Bounds]:
        """The first block, and those from `offset` on, by the footer alone.

        Reading begins with a row group: within one, all pages before a block must be unpacked.
        """
        parquet = self._open(file)
        start = 0
        for number in range(parquet.metadata.num_row_groups):
            group = parquet.metadata.row_group(number)
            last = start + group.num_rows
            step = self._batch_rows(parquet, number)
            while start < last:
                end = min(start + step, last)
                if start == 0 or start >= offset:
                    yield Bounds(start, end, end - start, start == 0, splits=end == last)
                start = end
        if start == 0:
            yield Bounds(0, 0, 0, first=True)

    def _open(self, file: Seekable) -> pq.ParquetFile:
        """Read the footer. Raises `BadFile`."""
        with _damage():
            parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        header = match_columns(tuple(schema.names), self._scorer.table, self._options.rename)
        _refuse_types(schema, header)
        self._header = header
        return parquet

    def _names(self, schema: pa.Schema) -> list[str] | None:
        """The columns that are read; None: all."""
        if self._options.include_input:
            return None
        return [schema.names[i] for i in self._opened().needed]

    def _blocks_from(self, offset: int, file: Seekable, parquet: pq.ParquetFile) -> Iterator[Block]:
        metadata, schema = parquet.metadata, parquet.schema_arrow
        start = 0
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            if start + rows <= offset:
                start += rows
                continue
            for batch in self._batches(file, parquet, number):
                end = start + batch.num_rows
                if start >= offset:
                    yield Block(start, end, start == 0, NO_LINES, [batch])
                start = end
        if start == 0:
            empty = schema.empty_table().select(self._names(schema) or schema.names)
            yield Block(0, 0, True, NO_LINES, [empty])

    def _opened(self) -> Header:
        if self._header is None:
            raise RuntimeError("the footer was not read yet")
        return self._header

    def _batches(
        self, file: Seekable, parquet: pq.ParquetFile, number: int
    ) -> Iterator[pa.RecordBatch]:
        """Rows of one row group, so many at once as make a block."""
        names = self._names(parquet.schema_arrow)
        group = parquet.metadata.row_group(number)
        packed, _ = _sizes(group, names)
        rows = self._batch_rows(parquet, number)
        found = 0
        with _damage():
            batches = pq.ParquetFile(
                file,
                metadata=parquet.metadata,
                pre_buffer=packed <= GROUP_BYTES,
                buffer_size=PIECE,
            ).iter_batches(rows, row_groups=[number], columns=names, use_threads=False)
            for batch in batches:
                found += batch.num_rows
                if batch.num_rows:
                    yield batch
        # Rows are numbered by the footer. Arrow does not notice when pages hold fewer.
        if found != group.num_rows:
            raise BadFile(
                f"the file is damaged: row group {number + 1} has {found} rows, "
                f"but the footer says {group.num_rows}"
            )

    def _batch_rows(self, parquet: pq.ParquetFile, number: int) -> int:
        """Rows of each block of a row group; its last one may have fewer. Raises `BadFile`."""
        group = parquet.metadata.row_group(number)
        _, unpacked = _sizes(group, self._names(parquet.schema_arrow))
        per_row: int = unpacked // max(group.num_rows, 1)
        if per_row > ROW_BYTES:
            raise BadFile(f"the rows of row group {number + 1} are larger than {ROW_BYTES} bytes")
        return min(self._limits.rows, max(1, BATCH_BYTES // max(per_row, 1)))

    def count_rows(self, block: Block) -> int:
        return block.end - block.start

    def read(self, block: Block) -> Rows:
        header, table, batch = self._opened(), self._scorer.table, _batch_of(block)
        places = range(len(header.columns)) if self._options.include_input else header.needed
        cells = {
            place: _series(column, header.columns[place])
            for place, column in zip(places, batch.columns, strict=True)
        }
        columns = {name: _numbered(cells[place]) for name, place in header.places.items()}
        if header.record_id is not None:
            columns[table.record_id] = cells[header.record_id]
        rows = typed_rows(columns, batch.num_rows, table)
        inputs = (
            Columns(header.columns, list(cells.values())) if self._options.include_input else None
        )
        return Rows(block.first, rows.values, rows.rejected, Shown(rows.ids, inputs))

    def score(self, rows: Rows, first_row: int) -> Scored:
        outcome = score_columns(self._scorer, rows.values, rows.rejected, counting=rows.first)
        content = self.output.write(outcome, rows.shown, first_row, first=rows.first)
        return Scored(content, outcome)


@contextmanager
def _damage() -> Iterator[None]:
    """Turn Arrow's errors about a file into `BadFile`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise BadFile("the file is not Parquet, or is damaged or encrypted") from error


def _refuse_types(schema: pa.Schema, header: Header) -> None:
    """Raise `BadFile` if a column that is needed has values that no field can have."""
    for index in header.needed:
        kind = schema.types[index]
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(check(kind) for check in READABLE):
            raise BadFile(
                f"column `{header.columns[index]}` has the type {kind}, and only numbers, words, "
                "booleans and decimals can be read: convert it, or rename the column if it is "
                "something else"
            )


def _sizes(group: pq.RowGroupMetaData, names: list[str] | None) -> tuple[int, int]:
    """Bytes of a row group's columns of these names, packed and unpacked."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunks = [c for c in chunks if names is None or c.path_in_schema.partition(".")[0] in names]
    return (
        sum(chunk.total_compressed_size for chunk in chunks),
        sum(chunk.total_uncompressed_size for chunk in chunks),
    )


def _batch_of(block: Block) -> pa.RecordBatch | pa.Table:
    [batch] = block.items
    assert isinstance(batch, pa.RecordBatch | pa.Table)  # noqa: S101  # we made it
    return batch


def _series(column: pa.Array | pa.ChunkedArray, name: str) -> pl.Series:
    """A column as Polars has it. Raises `BadFile` for types that it does not know."""
    try:
        # `pl.Series` would import all functions of Arrow, which takes as long as a block of rows.
        series = pl.DataFrame(pa.Table.from_arrays([column], [""])).to_series()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BadFile(
            f"column `{printable(name)}` has the type {column.type}, which cannot be read: "
            "convert it, or remove the column"
        ) from error
    return series.cast(pl.String) if series.dtype == pl.Categorical else series


def _numbered(cells: pl.Series) -> pl.Series:
    """Decimals as the numbers that the readers know."""
    return cells.cast(pl.Float64) if cells.dtype.is_decimal() else cells
