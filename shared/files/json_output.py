"""Scores as JSON lines: one object for each row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from shared.files.output import Shown, as_json
from shared.records.columns import Outcome

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=as_json).encode


class JsonLinesOutput:
    """Writes JSON lines."""

    resumes = True

    def __init__(self, columns: Sequence[str]) -> None:
        """`columns`: names of those that every result has."""
        self._columns = columns

    def write(self, outcome: Outcome, shown: Shown, first_row: int, *, first: bool) -> bytes:
        lines = _lines(outcome, self._columns, list(shown.ids), first_row)
        if shown.inputs is not None:
            lines = [
                f"{line[:-1]},{_inputs(item)[1:]}" if isinstance(item, dict) and item else line
                for line, item in zip(lines, shown.inputs.records(), strict=True)
            ]
        return "".join(f"{line}\n" for line in lines).encode()

    def finish(self) -> bytes:
        return b""


def _lines(
    outcome: Outcome, names: Sequence[str], ids: Sequence[str | None], first_row: int
) -> list[str]:
    """One object for each row, put together from texts: an encoder takes four times as long."""
    members = [f'"{name}":%s' for name in names]
    rejected = "{" + ",".join(members) + "}"
    scored = "{" + ",".join([*members[:-2], f'"{names[-2]}":null', f'"{names[-1]}":null']) + "}"
    shown = ["null" if record_id is None else _encode(record_id) for record_id in ids]
    numbers = range(first_row, first_row + len(shown))
    answers = (_json_texts(values) for values in outcome.answers)
    lines = list(map(scored.__mod__, zip(numbers, shown, *answers, strict=True)))
    for index, text in outcome.warnings.items():
        lines[index] = lines[index].replace('"warnings":null', f'"warnings":{_encode(text)}')
    nulls = ["null"] * (len(names) - 3)
    for index, text in outcome.errors.items():
        lines[index] = rejected % (first_row + index, shown[index], *nulls, _encode(text))
    return lines


def _json_texts(values: NDArray[Any]) -> list[Any]:
    """A column of the kind of answer as JSON shows it."""
    match values.dtype.kind:
        case "f":  # as text, a float32 has the fewest digits that give it back
            texts: list[Any] = values.astype(str).tolist()
            return texts
        case "U":
            return [_encode(text) for text in values.tolist()]
        case _:
            return list(values.tolist())


def _inputs(item: dict[str, object]) -> str:
    """The input's members, as they are repeated in the output."""
    return _dump({f"input_{key}": value for key, value in item.items()})


def _dump(line: dict[str, object]) -> str:
    try:
        text = _encode(line)
    except ValueError:  # 1e999 was read as infinity, which JSON cannot say
        text = _encode(_finite(line))
    if "\\ud" in text:  # half of a pair has no UTF-8: strict readers refuse the whole file
        whole = json.dumps(_finite(line), ensure_ascii=False, default=as_json).encode(
            errors="replace"
        )
        text = _encode(json.loads(whole))
    return text


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
