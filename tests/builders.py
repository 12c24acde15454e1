"""Makes what tests need, so that each shows only what matters to it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.files.base import Block, Limits, Table
from shared.files.formats import Format, open_table
from shared.files.options import Options
from shared.records.artifact import Manifest
from shared.records.counts import Counts
from shared.records.kinds import Probability
from shared.records.scoring import Matrix, Model, Scorer
from tests.fakes_model import FakeModel
from training.heart.fields import TABLE

NAMES = ("patient_id", *(field.name for field in TABLE.fields))


def a_patient(**changes: object) -> dict[str, object]:
    """A record that is accepted without a warning; `changes` of None take a field away."""
    record: dict[str, object] = {"age": 54, "sex": 1, "cp": 3, "trestbps": 130, "chol": 250}
    return {name: value for name, value in (record | changes).items() if value is not None}


def a_csv(*records: dict[str, object], columns: Sequence[str] = NAMES) -> bytes:
    """A CSV file of these records, as the standard library writes it."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def json_lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def golden_rows(manifest: Manifest) -> Matrix:
    """The manifest's golden records as the model's rows."""
    table = manifest.fields
    read = [table.read(golden.record) for golden in manifest.golden]
    return np.array([[record.values[i] for i in table.used] for record in read], np.float32)


def a_scorer(model: Model | None = None, threshold: float = 0.5) -> Scorer:
    return Scorer(model or FakeModel(), TABLE, Probability(threshold))


def cut(content: bytes, step: int) -> Iterator[bytes]:
    """The content in pieces of so many bytes."""
    return (content[start : start + step] for start in range(0, len(content), step))


def blocks_of(table: Table, pieces: Iterable[bytes]) -> list[Block]:
    """All blocks of a file that comes in these pieces."""
    found = [block for piece in pieces for block in table.feed(piece)]
    return [*found, *table.finish()]


@dataclass
class Result:
    """The result that a worker would write for a file."""

    content: bytes
    counts: Counts
    table: Table

    @property
    def rows(self) -> list[dict[str, str]]:
        """Rows of a CSV result, with decimal points in their answers; empty cells are ''."""
        text = self.content.decode("utf-8-sig")
        separator = text.removeprefix("row")[0]
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
        for row in rows:
            if "probability" in row:
                row["probability"] = row["probability"].replace(",", ".")
        return rows

    @property
    def lines(self) -> list[dict[str, object]]:
        """Rows of a JSON lines result."""
        return [json.loads(line) for line in self.content.splitlines()]

    @property
    def errors(self) -> list[str]:
        return [row["error"] for row in self.rows]


def score_file(
    kind: Format,
    content: bytes,
    *,
    include_input: bool = False,
    options: Options | None = None,
    limits: Limits | None = None,
    scorer: Scorer | None = None,
    items: tuple[object, ...] | None = None,
) -> Result:
    """Score a whole file as the worker does."""
    table = open_table(
        kind, scorer or a_scorer(), options or Options(include_input), limits or Limits(), items
    )
    counts = Counts()
    parts: list[bytes] = []
    for block in blocks_of(table, cut(content, 1 << 20)):
        scored = table.score(table.read(block), counts.rows + 1)
        counts.add(scored.counts)
        parts.append(scored.content)
    parts.append(table.output.finish())
    return Result(b"".join(parts), counts, table)
