"""The results of a run as Markdown, as one self-contained HTML page and as lines for a terminal.

The same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from shared.records.artifact import Manifest
from training.assessments import assessment_of
from training.blocks import Block, Picture, Section, Table
from training.card import (
    EVALUATED_ON,
    HOW,
    comparisons,
    method_of,
    named_figures,
    run_tables,
)


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
:root { color-scheme: light dark; --ink: #17212b; --soft: #566472; --paper: #ffffff;
  --line: #dce3e8; --note: #fdf3dc; --a: #0b6b74; --b: #b3501a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7edf2; --soft: #9dabb8; --paper: #0e1419;
  --line: #2a363f; --note: #332810; --a: #5cc4cb; --b: #f0965a; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
main { box-sizing: border-box; width: 100%; max-width: 64rem; margin: 0 auto;
  padding: 2rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; }
h2 { margin-top: 2.4rem; font-size: 1.25rem; scroll-margin-top: 1rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
p { max-width: 46rem; margin: .8rem 0; overflow-wrap: break-word; } a { color: var(--a); }
.notice { background: var(--note); padding: .7rem 1rem; border-radius: .5rem; max-width: none; }
.key { display: flex; flex-wrap: wrap; gap: 1rem 2rem; margin: 1.6rem 0; padding: 0; }
.key div { flex: 1 1 14rem; border-left: 3px solid var(--a); padding-left: 1rem; }
.key dt { color: var(--soft); font-size: .9rem; }
.key dd { margin: 0; } .key .number { font-size: 2.1rem; font-weight: 700; line-height: 1.2;
  letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.contents { margin: 2rem 0 0; padding: 1rem 1.25rem; border: 1px solid var(--line);
  border-radius: .75rem; }
.contents h2 { margin: 0; border: 0; font-size: 1rem; }
.contents ol { margin: .4rem 0 0; padding-left: 1.4rem; columns: 3 13rem; column-gap: 2rem; }
.scroll { overflow-x: auto; }
:focus-visible { outline: 3px solid var(--a); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; margin-top: 1rem; }
figure { margin: 0; flex: 1 1 min(24rem, 100%); max-width: 29rem; }
figure.small { flex: 1 1 min(12rem, 100%); max-width: 14.5rem; }
figcaption { color: var(--soft); font-size: .85rem; }
figure svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .tick { fill: var(--soft);
  font-size: 11px; } svg .name { font-weight: 600; }
.line { fill: none; stroke-width: 2.2; } .line.a { stroke: var(--a); } .line.b { stroke: var(--b); }
.line.grid { stroke: var(--line); stroke-width: 1; } .line.thin { stroke: var(--soft);
  stroke-width: 1; stroke-dasharray: 4 4; }
.fill.a, svg text.a { fill: var(--a); } .fill.b, svg text.b { fill: var(--b); }
"""
FIRST = "Intended use"
"""The section that comes before the table of contents."""


def page(manifest: Manifest, parts: Iterable[Section]) -> str:
    """The card as one HTML page that loads nothing else.

    It opens with the key figures and the intended use; the other sections follow their table of
    contents.
    """
    title = escape(manifest.title or manifest.name)
    notice = f'<p class="notice">{escape(manifest.notice)}</p>' if manifest.notice else ""
    sections = list(parts)
    first = "".join(_html_section(one) for one in sections if one.title == FIRST)
    others = [one for one in sections if one.title != FIRST]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<main id="main">\n<h1>{title}</h1>\n{notice}\n{_key_figures(manifest)}\n{first}\n'
        f"{_contents(others)}\n" + "\n".join(map(_html_section, others)) + "\n</main>\n"
        "</body>\n</html>\n"
    )


def _key_figures(manifest: Manifest) -> str:
    """How many rows there are and how good the predictions are."""
    method = method_of(manifest.figures)
    if method is None:
        return ""
    assess = assessment_of(manifest.answer_kind)
    figures = (
        (
            f"{manifest.nouns.capitalize()} in the {EVALUATED_ON[method]}",
            f"{manifest.figures['rows']:,}",
            assess.outcomes(manifest),
        ),
        *assess.key_figures(manifest, method, HOW[method]),
    )
    items = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="number">{number}</dd><dd>{escape(text)}</dd></div>'
        for name, number, text in figures
    )
    return f'<dl class="key">{items}</dl>'


def _contents(parts: Iterable[Section]) -> str:
    links = "".join(
        f'<li><a href="#{_anchor(one.title)}">{escape(one.title)}</a></li>' for one in parts
    )
    return (
        '<nav class="contents" aria-labelledby="contents"><h2 id="contents">Contents</h2>'
        f"<ol>{links}</ol></nav>"
    )


def _html_section(section: Section) -> str:
    name = _anchor(section.title)
    heading = f'<h2 id="{name}">{escape(section.title)}</h2>'
    return f"<section>{heading}\n{_html_blocks(section.blocks, section.title)}</section>"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _html_blocks(blocks: Iterable[Block], title: str) -> str:
    texts, figures = [], []
    for block in blocks:
        match block:
            case str():
                texts.append(f"<p>{_inline(block)}</p>")
            case Table():
                texts.append(_html_table(block, title))
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


def _html_table(table: Table, title: str) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = "\n".join(row(one, "td") for one in table.rows)
    return (
        # Focusable, so that a wide table scrolls by keyboard.
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead>{row(table.head, 'th')}</thead>\n"
        f"<tbody>{rows}</tbody></table></div>"
    )


def summary(manifest: Manifest) -> str:
    """Lines for a terminal: figures with intervals, field sets, thresholds, subgroups."""
    lines = named_figures(manifest)
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
