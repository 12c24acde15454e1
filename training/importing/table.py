"""A first field table from a sample file or from the signature of an MLflow model.

`python -m training.importing.table SAMPLE.csv` prints it as a Python file to run and to edit.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.records.schema import (
    MISSING,
    NUMBER,
    RECORD_ID_ALIASES,
    Choice,
    FieldSpec,
    FieldTable,
    fold_word,
)
from training.errors import TrainingError
from training.sample import Sample, read_sample

MLMODEL = "MLmodel"
MOST_WORDS = 50
"""Different words of a column that still is a category."""
UNKNOWN_RANGE = (-1e6, 1e6)
"""Of a number in a signature, which has no ranges."""


def read_signature(path: Path) -> Sample:
    """The inputs of an `MLmodel` file, with the cells of its input example if it has one.

    Raises `TrainingError`.
    """
    described = read_mlmodel(path)
    try:
        inputs = json.loads(described["signature"]["inputs"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} has no signature: give a sample file to --fields") from error
    if any("name" not in one for one in inputs):
        raise TrainingError(f"{path}: its inputs have no names: give a sample file to --fields")
    example = _example(path, described)
    columns = {}
    for one in inputs:
        cells = example.get(one["name"], [])
        if not cells and one["type"] == "boolean":
            cells = ["false", "true"]
        elif not cells and one["type"] in ("double", "float", "integer", "long"):
            cells = [f"{end:.0f}" for end in UNKNOWN_RANGE]
        elif not cells:
            raise TrainingError(
                f"{path}: {one['name']} is of type {one['type']} and has no example: give a sample "
                "file to --fields, so that its words are known"
            )
        columns[one["name"]] = cells
    required = frozenset(one["name"] for one in inputs if one.get("required", True))
    return Sample(columns, required, signed=True)


def read_mlmodel(path: Path) -> dict[str, Any]:
    """The content of an `MLmodel` file. Raises `TrainingError`."""
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainingError(f"{path} is not the MLmodel file of an MLflow model") from error
    if not isinstance(described, dict) or "flavors" not in described:
        raise TrainingError(f"{path} is not the MLmodel file of an MLflow model")
    return described


def _example(path: Path, described: Mapping[str, Any]) -> dict[str, list[str]]:
    about = described.get("saved_input_example_info") or {}
    file = path.parent / str(about.get("artifact_path", ""))
    if about.get("pandas_orient") != "split" or not file.is_file():
        return {}
    example = json.loads(file.read_text(encoding="utf-8"))
    cells = zip(*example["data"], strict=True)
    return {
        name: ["" if value is None else str(value) for value in values]
        for name, values in zip(example["columns"], cells, strict=True)
    }


def sample_of(path: Path) -> Sample:
    """A CSV file, an `MLmodel` file or the folder of one. Raises `TrainingError`."""
    if path.is_dir():
        path = path / MLMODEL
    return read_signature(path) if path.name == MLMODEL else read_sample(path)


@dataclass(frozen=True, slots=True)
class FirstTable:
    """A field table as far as a sample tells, and what was left out."""

    table: FieldTable
    left_out: tuple[str, ...]
    """Sentences."""


def first_table(sample: Sample, without: Iterable[str] = ()) -> FirstTable:
    """Guess the fields of a sample. `without`: columns that are no fields, such as the outcome.

    Raises `TrainingError`.
    """
    fields: list[FieldSpec] = []
    left_out = []
    for column, cells in sample.columns.items():
        if column in without:
            continue
        try:
            fields.append(_field(column, cells, sample, {field.name.lower() for field in fields}))
        except ValueError as error:
            left_out.append(f"{column}: {_reason(error)}")
    if not fields:
        raise TrainingError(f"no column can be a field: {'; '.join(left_out)}")
    return FirstTable(FieldTable(fields=tuple(fields)), tuple(left_out))


def _reason(error: ValueError) -> str:
    """A sentence; pydantic's own begins with a header of its own."""
    return str(error).partition("Value error, ")[2].partition(" [type")[0] or str(error)


def _field(column: str, cells: list[str], sample: Sample, taken: set[str]) -> FieldSpec:
    """Raises `ValueError` with the reason if the column can be no field."""
    if column.lower() in RECORD_ID_ALIASES:
        raise ValueError("the record's own id")
    known = [cell for cell in cells if cell.lower() not in MISSING]
    if not known:
        raise ValueError("all cells are missing")
    required = column in sample.required if sample.signed else len(known) == len(cells)
    name = _name(column, taken)
    about: dict[str, Any] = {
        "name": name,
        "title": re.sub(r"[_\s]+", " ", column).strip().capitalize(),
        "column": "" if name == column else column,
        "required": required,
    }
    if all(NUMBER.fullmatch(cell) for cell in known):
        values = {float(cell) for cell in known}
        return FieldSpec(**about, **(_flag() if values == {0, 1} else _number(values)))
    words = sorted(set(known))
    if {word.lower() for word in words} <= {"true", "false"}:
        return FieldSpec(**about, **_flag())  # the estimator was fitted to True and False
    if len(words) > MOST_WORDS or len({fold_word(word) for word in words}) != len(words):
        raise ValueError(f"{len(words)} different texts: neither a number nor a category")
    choices = tuple(Choice(code=code, word=word) for code, word in enumerate(words))
    ends = (0, len(words) - 1)
    return FieldSpec(**about, kind="category", choices=choices, accept=ends, training=ends)


def _name(column: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")[:60] or "field"
    name = name if name[0].isalpha() else f"f_{name}"
    while name.lower() in taken:
        name += "_"
    return name


def _flag() -> dict[str, Any]:
    choices = (Choice(code=0, title="No"), Choice(code=1, title="Yes"))
    ends = (0, 1)
    return {
        "kind": "category",
        "boolean": True,
        "choices": choices,
        "accept": ends,
        "training": ends,
    }


def _number(values: set[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    accept = (0.0 if low >= 0 else _outward(low - span), -_outward(-high - span))
    return {"kind": "number", "accept": accept, "training": (low, high)}


def _outward(low: float) -> float:
    """The next lower number of two digits."""
    if low == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(low))) - 1)
    return round(math.floor(low / step) * step, 12)


def as_python(first: FirstTable, source: str, name: str) -> str:
    """A model file with the table. The estimator comes from `heart-scorer import`."""
    fields = "".join(f"        {_spec(field)},\n" for field in first.table.fields)
    left_out = "".join(f"# Left out: {reason}\n" for reason in first.left_out)
    return (
        f'"""Fields of {source}, a first guess: check every line.\n\n'
        "`accept` is the range that callers may send. `training` is the range of the data; beyond "
        'it a\nscore carries a warning. A field that is not `required` may be missing.\n"""\n\n'
        "from shared.records.schema import Choice, FieldSpec, FieldTable\n"
        "from training.recipe import Recipe\n\n"
        f"{left_out}"
        f"TABLE = FieldTable(\n    fields=(\n{fields}    )\n)\n\n"
        f'MODEL = Recipe(\n    name={_quoted(name)},\n    version="1.0.0",\n'
        f"    title={_quoted(_title(name))},\n    table=TABLE,\n)\n"
    )


def _spec(field: FieldSpec) -> str:
    parts = [f"name={_quoted(field.name)}", f"title={_quoted(field.title)}"]
    if field.column:
        parts.append(f"column={_quoted(field.column)}")
    parts.append(f'kind="{field.kind}"')
    if field.boolean:
        parts.append("boolean=True")
    if field.choices:
        parts.append("choices=(")
        parts += [f"    {_choice(choice)}" for choice in field.choices]
        parts.append(")")
    parts += [f"accept={_ends(field.accept)}", f"training={_ends(field.training)}"]
    if field.required:
        parts.append("required=True")
    lines = "".join(f"            {part}{'' if part.endswith('(') else ','}\n" for part in parts)
    return f"FieldSpec(\n{lines}        )"


def _choice(choice: Choice) -> str:
    word = "" if choice.word is None else f", word={_quoted(choice.word)}"
    title = f", title={_quoted(choice.title)}" if choice.title else ""
    return f"Choice(code={choice.code}{word}{title})"


def _quoted(text: str) -> str:
    """A literal of Python, as a formatter writes it."""
    return json.dumps(text, ensure_ascii=False)


def _ends(ends: tuple[float, float]) -> str:
    return "({}, {})".format(*(repr(int(end) if end == int(end) else end) for end in ends))


def _title(name: str) -> str:
    return f"Prediction of {name}"


def main() -> int:
    """Print the first field table of the file that the argument names."""
    path = Path(sys.argv[1])
    name = (path.parent if path.name == MLMODEL else path).resolve().stem
    try:
        first = first_table(sample_of(path), without=sys.argv[2:])
    except TrainingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(as_python(first, path.name, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
