"""Lines of CSV to columns of text, by Polars.

A fast reader cannot be asked about ragged rows (Polars fills short ones and cuts long ones), so
cells are counted over the bytes before Polars sees them. Lines that are ragged or oddly quoted are
written anew in plain form; what remains is plain to any reader.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np
import polars as pl

from shared.csv_header import Header
from shared.errors import BadFile
from shared.lines import QUOTE, Places, quotes_are_regular, split_cells
from shared.tables import Block, Lines, decode


def read_cells(
    block: Block, header: Header, wanted: Sequence[int]
) -> tuple[pl.DataFrame, list[int]]:
    """The `wanted` columns of a block as text, `c0`, `c1`, …, and the places of ragged rows.

    Cells of a ragged row are cut or filled up. Blank lines are left out.
    """
    decode(block.lines.content, block.start)
    lines, ragged = _plain(block.lines, header)
    frame = _parse(lines, header, wanted)
    if frame is None:
        # Polars read something else than lines and cells: give it all in the plainest form.
        lines, ragged = _plain(block.lines, header, every=True)
        frame = _parse(lines, header, wanted)
    if frame is None:
        raise BadFile(f"the rows from byte {block.start} on cannot be read as CSV")
    return frame, ragged


def _parse(lines: Lines, header: Header, wanted: Sequence[int]) -> pl.DataFrame | None:
    if len(lines.ends) == 0:
        return pl.DataFrame(
            {f"c{i}": [] for i in wanted}, dict.fromkeys((f"c{i}" for i in wanted), pl.String)
        )
    try:
        frame = pl.read_csv(
            lines.content,
            has_header=False,
            separator=header.separator,
            schema={f"c{i}": pl.String for i in range(len(header.columns))},
            columns=list(wanted),
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(lines.ends) else None


def _plain(lines: Lines, header: Header, *, every: bool = False) -> tuple[Lines, list[int]]:
    """The lines without blank ones, ragged or oddly quoted ones (or `every`) written anew.

    Returns them with the places of ragged ones, whose cells were cut or filled up.
    """
    content, ends = lines.content, lines.ends
    width = len(header.columns)
    odd = (
        _odd(content, ends, ord(header.separator), width)
        if not every
        else np.full(len(ends), fill_value=True)
    )
    if not odd.any():
        return lines, []

    parts: list[bytes] = []
    lengths: list[Places] = []
    ragged: list[int] = []
    kept = done = 0
    """Lines written and lines read."""
    for place in [*np.flatnonzero(odd).tolist(), len(ends)]:
        if place > done:  # plain lines up to this one
            begin = int(ends[done - 1]) if done else 0
            parts.append(content[begin : int(ends[place - 1])])
            lengths.append(np.diff(ends[done:place], prepend=begin))
            kept += place - done
        done = place + 1
        if place == len(ends):
            break
        line = content[int(ends[place - 1]) if place else 0 : int(ends[place])]
        if not line.strip():
            continue
        cells = split_cells(_without_end(line).decode(), header.separator)
        if len(cells) != width:
            ragged.append(kept)
            cells = (cells + [""] * width)[:width]
        parts.append(_quoted_line(cells, header.separator))
        lengths.append(np.array([len(parts[-1])], np.int64))
        kept += 1
    return Lines(
        b"".join(parts), np.cumsum(np.concatenate(lengths)) if lengths else ends[:0]
    ), ragged


def _odd(
    content: bytes, ends: Places, separator: int, width: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Lines that are blank, ragged, or that Polars may read otherwise than the standard says."""
    bytes_ = np.frombuffer(content, np.uint8)
    separators = np.flatnonzero(bytes_ == separator)
    odd = np.zeros(len(ends), np.bool_)
    if QUOTE in content:
        quotes = np.flatnonzero(bytes_ == QUOTE)
        if quotes_are_regular(bytes_, quotes, separator):
            separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
        else:
            odd |= _per_line(quotes, ends) > 0
    cells = _per_line(separators, ends) + 1
    # A line of one cell may be blank; where one cell is right, it may hold only an empty quote.
    odd |= (cells != width) | (cells == 1)
    if content.startswith(codecs.BOM_UTF8):  # Polars would take it for a mark
        odd[0] = True
    return odd


def _per_line(places: Places, ends: Places) -> Places:
    return np.diff(np.searchsorted(places, ends), prepend=0)


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _quoted_line(cells: Sequence[str], separator: str) -> bytes:
    quoted = ('"' + cell.replace('"', '""') + '"' for cell in cells)
    return (separator.join(quoted) + "\n").encode()
