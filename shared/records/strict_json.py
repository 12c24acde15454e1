"""Strict JSON: NaN and Infinity are refused, and duplicate keys are noticed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

MAX_DEPTH = 32
"""Deepest nesting. Records are flat; Python itself would fail near 1,000."""


class DuplicateKeys(dict[str, object]):
    """An object in which keys appear more than once; `names` are those keys."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    marked = DuplicateKeys(record)
    keys = Counter(key for key, _ in pairs)
    marked.names = tuple(key for key, number in keys.items() if number > 1)
    return marked


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON: use null for missing")


def _nan(name: str) -> float:
    return math.nan if name == "NaN" else _refuse_constant(name)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
_nan_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_nan)


def parse_json(text: str, *, nan: bool = False) -> object:
    """Parse strictly; `nan`: take the word NaN, too, which some clients write for missing.

    Raises `ValueError` whose text names the position and never the content.
    """
    start = len(text) - len(text.lstrip(BLANK))
    value, end = parse_item(text, start, _nan_decoder if nan else _decoder)
    if text[end:].strip(BLANK):
        raise ValueError(f"there is more after it at character {end}")
    return value


BLANK = " \t\r\n"


def parse_item(
    text: str, start: int, decoder: json.JSONDecoder = _decoder, *, offset: int = 0
) -> tuple[object, int]:
    """Parse the value that starts at this index; also return the index after it.

    Raises `ValueError` as `parse_json` does; `offset` is that of the text in its file.
    """
    try:
        value, end = decoder.raw_decode(text, start)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {offset + error.pos}") from error
    except ValueError as error:
        raise ValueError(_harmless(error)) from error
    # The interpreter's own limit depends on where it is called from: results may not.
    brackets = text.count("[", start, end) + text.count("{", start, end)
    if brackets > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return value, end


def _deeper(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return depth == 0 or any(_deeper(item, depth - 1) for item in inner)


def _harmless(error: ValueError) -> str:
    # Python's own message about a number of thousands of digits does not help our users.
    text = str(error)
    return text if text.endswith("for missing") else "a number has too many digits"


_flat_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_flat_lines(lines: Sequence[str]) -> list[dict[str, object]] | None:
    """Parse lines that all hold one object of plain values; None: `parse_json` must decide.

    One call for all lines takes half the time. Each member has a colon, so objects with as many
    members as the text has colons hold no duplicate key and no other object. No object can go on
    in the next line: a string holds no line end, and there is no array.
    """
    text = ",\n".join(lines)
    if "[" in text or not all(line[0] == "{" and line[-1] == "}" for line in lines):
        return None
    try:
        items: list[dict[str, object]] = _flat_decoder.decode(f"[{text}]")
    except (ValueError, RecursionError):
        return None
    if len(items) != len(lines) or sum(map(len, items)) != text.count(":"):
        return None
    return items
