"""Generated patient files with good and bad rows."""

from __future__ import annotations

import io
import json
import random

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

HEADER = "patient_id,age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"


def patients(count: int, seed: int = 0) -> bytes:
    """A CSV file; about one row in twenty is rejected, and some cells are missing."""
    rng = random.Random(seed)
    lines = [HEADER]
    for number in range(1, count + 1):
        cells = [
            f"p-{number}",
            str(rng.randrange(29, 78)),
            rng.choice(("0", "1", "female", "male")),
            rng.choice(("0", "1", "2", "3", "asymptomatic")),
            str(rng.randrange(94, 200)),
            rng.choice(("", "NA", str(rng.randrange(126, 400)))),
            rng.choice("01"),
            rng.choice("012"),
            str(rng.randrange(80, 200)),
            rng.choice(("0", "1", "yes", "no")),
            f"{rng.random() * 5:.1f}",
            rng.choice("012"),
            rng.choice(("", "0", "1", "2", "3")),
            rng.choice("012"),
        ]
        if rng.random() < 0.05:
            cells[rng.randrange(1, 4)] = rng.choice(("old", "inf", "-1", "1e999"))
        lines.append(",".join(cells))
    return "\n".join([*lines, ""]).encode()


def records(count: int, seed: int = 0) -> bytes:
    """The same as JSON lines, without the bad ones."""
    rng = random.Random(seed)
    lines = [
        f'{{"patient_id":"p-{n}","age":{rng.randrange(29, 78)},"sex":{rng.randrange(2)},"cp":3}}'
        for n in range(1, count + 1)
    ]
    return "\n".join([*lines, ""]).encode()


def table(count: int, seed: int = 0) -> pa.Table:
    """The same with types; one in twenty is rejected."""
    lines = [json.loads(line) for line in records(count, seed).splitlines()]
    for line in lines[::20]:
        line["age"] = 200
    return pa.Table.from_pylist(lines)


def parquet(rows: pa.Table, times: int = 1) -> bytes:
    """A Parquet file of these rows, so many times: a row group each."""
    file = io.BytesIO()
    with pq.ParquetWriter(file, rows.schema) as writer:
        for _ in range(times):
            writer.write_table(rows, row_group_size=len(rows))
    return file.getvalue()


def workbook(rows: pa.Table) -> bytes:
    """An Excel workbook of these rows."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(rows.column_names)
    for row in rows.to_pylist():
        sheet.append(list(row.values()))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()
