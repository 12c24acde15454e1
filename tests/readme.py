"""Write the table of docs/settings.md from the settings classes: `python -m tests.readme`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from shared import settings
from shared.settings import ApiSettings, StorageSettings, WorkerSettings, variable_of

README = Path(__file__).parents[1] / "README.md"
SETTINGS = README.parent / "docs/settings.md"
HEAD = "| variable | default | range | for |\n| --- | --- | --- | --- |\n"


def settings_table() -> str:
    """One row per setting: those that all share first, then the api's, then the worker's."""
    rows: list[str] = []
    seen: set[str] = set()
    texts = _docstrings()
    for title, kind in (
        ("", StorageSettings),
        ("api: ", ApiSettings),
        ("worker: ", WorkerSettings),
    ):
        for name, field in kind.model_fields.items():
            if name not in seen:
                seen.add(name)
                owner = next(c for c in kind.__mro__ if (c.__name__, name) in texts)
                rows.append(_row(title + texts[owner.__name__, name], name, field))
    return HEAD + "".join(rows)


def variables(kind: type[StorageSettings]) -> set[str]:
    """Environment variables of a settings class."""
    return {variable_of(name) for name in kind.model_fields}


def _docstrings() -> dict[tuple[str, str], str]:
    """Docstrings of the settings, read from the source, since it costs every start 40 ms there."""
    module = ast.parse(inspect.getsource(settings))
    found: dict[tuple[str, str], str] = {}
    for kind in (node for node in module.body if isinstance(node, ast.ClassDef)):
        for field, below in pairwise(kind.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[kind.name, name] = " ".join(text.split())
    return found


def _row(text: str, name: str, field: FieldInfo) -> str:
    return f"| `{variable_of(name)}` | {_default(field.default)} | {_range(field)} | {text} |\n"


def _default(value: object) -> str:
    if value is None or isinstance(value, SecretStr):
        return "—"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _range(field: FieldInfo) -> str:
    limits = {name: _limit(field.metadata, name) for name in ("ge", "le", "max_length")}
    if limits["ge"] is not None and limits["le"] is not None:
        return (
            f"{limits['ge']:g}–{limits['le']:g}"
            if limits["le"] < 1e6
            else f"{limits['ge']}–{limits['le']}"
        )
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    return ""


def _limit(metadata: Iterable[Any], name: str) -> Any:
    return next((getattr(m, name) for m in metadata if hasattr(m, name)), None)


def write() -> None:
    """Replace the table of the page, which ends it."""
    text = SETTINGS.read_text()
    SETTINGS.write_text(text[: text.index(HEAD)] + settings_table())


if __name__ == "__main__":
    write()
