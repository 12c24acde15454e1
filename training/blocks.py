"""Parts of a model card: text, tables and pictures in sections."""

from __future__ import annotations

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
