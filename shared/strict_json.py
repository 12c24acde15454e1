"""JSON read strictly: NaN and Infinity are no JSON, and keys that stand twice are noticed."""

from __future__ import annotations

import json

__all__ = ["DuplicateKeys", "decoder", "harmless", "parse_json"]


class DuplicateKeys(dict[str, object]):
    """An object in which a key stands twice; `names` are those keys."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    marked = DuplicateKeys(record)
    keys = [key for key, _ in pairs]
    marked.names = tuple(key for key in record if keys.count(key) > 1)
    return marked


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON: use null for missing")


decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def parse_json(text: str) -> object:
    """Parse strictly. Raises `ValueError` whose text names the place and never the content."""
    try:
        return decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise ValueError(harmless(error)) from error


def harmless(error: ValueError) -> str:
    """The message of a `ValueError` of the decoder, without what was decoded."""
    # Python's own message about a number of thousands of digits says nothing to our users.
    text = str(error)
    return text if text.endswith("for missing") else "a number has too many digits"
