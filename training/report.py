"""The results of a run as Markdown, as one self-contained HTML page and as lines for a terminal.

The same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from shared.records.artifact import Manifest
from training.blocks import Block, Picture, Section, Table
from training.card import comparisons, named_figures, run_tables


def markdown(manifest: Manifest, parts: Iterable[Section]) -> str:
    """The card as Markdown, without the pictures."""
    lines = [f"# {manifest.title or manifest.name}", ""]
    if manifest.notice:
        lines += [f"> {manifest.notice}", ""]
    for section in parts:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            match block:
                case str():
                    lines += [block, ""]
                case Table():
                    lines += [*_markdown_table(block), ""]
                case Picture():
                    pass
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> list[str]:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [row(table.head), row("---" for _ in table.head), *(row(one) for one in table.rows)]


STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5b6876; --paper: #ffffff;
  --line: #d9dfe5; --note: #fff4d6; --a: #1f6fb2; --b: #c2571a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --paper: #14191f;
  --line: #333c46; --note: #3a3217; --a: #6db3ea; --b: #f0965a; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.2rem; font-size: 1.2rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
p { max-width: 46rem; }
.notice { background: var(--note); padding: .7rem 1rem; border-radius: .4rem; max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; margin-top: 1rem; }
figure { margin: 0; flex: 1 1 24rem; max-width: 29rem; }
figure.small { flex: 1 1 12rem; max-width: 14.5rem; }
figcaption { color: var(--soft); font-size: .85rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .tick { fill: var(--soft);
  font-size: 11px; } svg .name { font-weight: 600; }
.line { fill: none; stroke-width: 2.2; } .line.a { stroke: var(--a); } .line.b { stroke: var(--b); }
.line.grid { stroke: var(--line); stroke-width: 1; } .line.thin { stroke: var(--soft);
  stroke-width: 1; stroke-dasharray: 4 4; }
.fill.a, svg text.a { fill: var(--a); } .fill.b, svg text.b { fill: var(--b); }
"""


def page(manifest: Manifest, parts: Iterable[Section]) -> str:
    """The card as one HTML page that loads nothing else."""
    title = escape(manifest.title or manifest.name)
    notice = f'<p class="notice">{escape(manifest.notice)}</p>' if manifest.notice else ""
    body = "\n".join(
        f"<section><h2>{escape(section.title)}</h2>\n{_html_blocks(section.blocks)}</section>"
        for section in parts
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{notice}\n{body}\n</body>\n</html>\n"
    )


def _html_blocks(blocks: Iterable[Block]) -> str:
    texts, figures = [], []
    for block in blocks:
        match block:
            case str():
                texts.append(f"<p>{_inline(block)}</p>")
            case Table():
                texts.append(_html_table(block))
            case Picture():
                kind = ' class="small"' if block.small else ""
                caption = f"<figcaption>{escape(block.caption)}</figcaption>"
                figures.append(f"<figure{kind}>{block.svg}{caption}</figure>")
    if figures:
        texts.append(f'<div class="pictures">{"".join(figures)}</div>')
    return "\n".join(texts) + "\n"


def _inline(text: str) -> str:
    """Escaped text; text between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _html_table(table: Table) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = "\n".join(row(one, "td") for one in table.rows)
    return (
        f'<div class="scroll"><table><thead>{row(table.head, "th")}</thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def summary(manifest: Manifest) -> str:
    """Lines for a terminal: figures with intervals, field sets, thresholds, subgroups."""
    lines = named_figures(manifest.figures)
    for table in run_tables(manifest):
        lines += ["", *("  " + line for line in _aligned(table))]
    lines += ["", *comparisons(manifest.figures)]
    return "\n".join(lines)


def _aligned(table: Table) -> list[str]:
    rows = [table.head, *table.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
