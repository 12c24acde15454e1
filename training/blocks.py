"""Parts of a model card: text, tables and pictures in sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG with its caption. The page shows it; Markdown leaves it out."""

    svg: str
    caption: str
    small: bool = False


Block = str | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the card."""

    title: str
    blocks: tuple[Block, ...]


def figure(value: float | None, form: str = ".3f") -> str:
    """A figure as text; empty if there is none."""
    return "" if value is None else f"{value:{form}}"


def interval(ends: Sequence[float | None] | None, form: str = ".3f") -> str:
    """An interval as text; empty if there is none."""
    if not ends or ends[0] is None:
        return ""
    return f"{ends[0]:{form}} to {ends[1]:{form}}"
