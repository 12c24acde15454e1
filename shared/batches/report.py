"""The report of a batch: one page for people, made from its summary and profile.

The page loads nothing and has no scripts. The API and the command line both use this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.batches.differences import COMPARED, differences, number, percent

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of the page: its own styles and nothing else."""

BADGES = {"like training": "", "shifted": "shifted", "far from training": "far"}
SHOWN_CHOICES = 12
"""Most choices of one field in a chart; a category may have hundreds."""
WIDTH, HEIGHT, FLOOR = 320, 130, 104
"""Of a chart, and the height at which its bars begin."""
LABEL = 9
"""Characters of a label below a bar."""

WHY = {
    "missing_required": "a required value is missing",
    "not_a_number": "the value is not a number",
    "out_of_range": "the number is outside the accepted range",
    "unknown_value": "the value is none of the accepted codes or words",
    "unknown_field": "a key is not a field",
    "duplicate_field": "a field appears more than once",
    "wrong_field_count": "the row has another number of cells than the header",
    "too_long": "the row or the id is too long",
    "not_text": "the id is not text of printable characters",
    "malformed": "the row is not a record",
    "model_error": "the model could not answer",
}
"""Codes of rejections, for people."""


def report_page(summary: dict[str, Any], profile: dict[str, Any] | None) -> str:
    """The page of a batch that succeeded."""
    title = f"Batch {summary['batch_id']}"
    parts = [_head(title, summary), _figures(summary["rows"], profile)]
    if summary["warnings"]:
        parts.append(_card("Check this before you use the scores", _list(summary["warnings"])))
    if profile is None:
        parts.append(_card("Profile", f"<p>{_no_profile(summary)}</p>"))
    else:
        parts.append(_findings(profile))
        parts.append(_scores(profile))
    if summary["rejections"]:
        parts.append(_rejections(summary["rejections"], profile))
    if profile is not None:
        cards = "".join(map(_field, profile["fields"]))
        parts.append(f"<h2>Fields</h2>{_legend(profile)}<div class=fields>{cards}</div>")
    parts.append(_about(summary, profile))
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _head(title: str, summary: dict[str, Any]) -> str:
    model, finished = summary["model"], summary["times"]["finished"]
    return (
        f"<header><h1>{escape(title)}</h1><p class=muted>{escape(model['name'])} "
        f"{escape(model['version'])} · finished {escape(finished[:16].replace('T', ' '))} UTC"
        "</p></header>"
    )


def _figures(rows: dict[str, int], profile: dict[str, Any] | None) -> str:
    figures = [
        ("Rows", f"{rows['total']:,}"),
        ("Scored", f"{rows['scored']:,}"),
        ("Rejected", f"{rows['rejected']:,}"),
        ("With a warning", f"{rows['with_warnings']:,}"),
    ]
    scores = profile["scores"] if profile else {"mean": None, "thresholds": []}
    if scores["mean"] is not None:
        unit = f", {escape(scores['unit'])}" if scores["unit"] else ""
        figures.append((f"Mean score{unit}", number(scores["mean"])))
    figures += [
        (f"At least {one['threshold']:g}", percent(one["share"]))
        for one in scores["thresholds"]
        if one["share"] is not None and rows["scored"]
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    return f"<dl class=figures>{cells}</dl>"


def _no_profile(summary: dict[str, Any]) -> str:
    return (
        "This batch has no profile: small batches get one only if it is asked for "
        "(<code>heart-scorer submit --profile</code>, or <code>profile=true</code> over HTTP)."
        if "profile" in summary
        else "This batch was scored by a version that made no profiles."
    )


def _findings(profile: dict[str, Any]) -> str:
    found = differences(profile)
    readings = {f["reading"] for f in profile["fields"] if f["used"]}
    if "no reference" in readings:
        found.append(
            "Nothing was compared with training: this model was trained before its data's "
            "distribution was recorded. Train it again."
        )
    elif not readings & {*COMPARED}:
        found.append("Nothing was compared with training: there are fewer than 50 scores")
    if found:
        return _card("What differs from training", _list(found))
    rows = f"{profile['training_rows']:,} rows"
    text = f"<p>Nothing: fields and scores are distributed like the {rows} of training.</p>"
    return _card("What differs from training", text)


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_with_code(text)}</li>" for text in sentences)
    return f"<ul class=findings>{items}</ul>"


def _with_code(text: str) -> str:
    """Escaped text; text between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _scores(profile: dict[str, Any]) -> str:
    scores = profile["scores"]
    marks = [one["threshold"] for one in scores["thresholds"]]
    if limits := scores.get("limits"):
        low, high = limits
        edges = [low, *scores["edges"], high]
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
        labels = [(i / (len(edges) - 1), f"{edge:g}") for i, edge in enumerate(edges) if i % 4 == 0]
        training = scores["training"]["shares"] if scores["training"] else None
        chart = _chart("scores", names, scores["counts"], training, labels, wide=True, marks=marks)
    else:
        chart = _bins_chart("scores", scores, wide=True)
    return _card("Scores", _badge(scores) + chart + _legend(profile, marks))


def _legend(profile: dict[str, Any], marks: Sequence[float] = ()) -> str:
    training = profile["training_rows"]
    there = f"<span class=training>training, {training:,} rows</span>" if training else ""
    lines = "".join(f"<em>dashed: threshold {mark:g}</em>" for mark in marks)
    return f'<p class="legend small muted"><span>this batch</span>{there}{lines}</p>'


def _badge(part: dict[str, Any]) -> str:
    reading = part["reading"]
    index = "" if part["psi"] is None else f" · index {part['psi']:.2f}"
    kind = BADGES.get(reading, "none")
    return f'<p><span class="badge {kind}">{escape(reading)}{index}</span></p>'


def _field(field: dict[str, Any]) -> str:
    unit = f", {escape(field['unit'])}" if field["unit"] else ""
    used = "" if field["used"] else " · not used by the model"
    badge = _badge(field) if field["used"] else ""
    return (
        f"<section class=card><div class=row><h3><code>{escape(field['name'])}</code></h3>{badge}"
        f"</div><p class='small muted'>{escape(field['title'])}{unit}{used}</p>"
        f"{_bins_chart(field['name'], field)}<p class=small>{'<br>'.join(_facts(field))}</p>"
        "</section>"
    )


def _facts(field: dict[str, Any]) -> Iterable[str]:
    training = field["training"]
    count, missing = field["count"], field["missing"]
    if missing is not None and count is not None and count + missing:
        there = f", in training {100 * training['missing']:.0f} %" if training else ""
        yield f"Missing: {percent(missing / (count + missing))}{there}"
    if field.get("mean") is not None:
        there = training and training["mean"]
        known = "" if there is None else f", in training {number(there)}"
        yield f"Mean: {number(field['mean'])}{known}"
    low, high = map(number, field["training_range"])
    sides = [(field["below"], f"below {low}"), (field["above"], f"above {high}")]
    told = [f"{rows:,} {side}" for rows, side in sides if rows]
    if told and field["kind"] == "number":
        yield f"Outside the training range: {escape(', '.join(told))}"
    if None in field["counts"]:
        yield "Some bars are withheld: they could tell of fewer than five rows"


def _bins_chart(title: str, field: dict[str, Any], *, wide: bool = False) -> str:
    """Bars of a number's bins or of a category's choices."""
    training = field["training"]["shares"] if field["training"] else None
    cells: Sequence[int | None] = field["counts"]
    if field["kind"] == "number":
        edges = [number(edge) for edge in field["edges"]]
        names = [f"{low} to {high}" for low, high in pairwise(["lowest", *edges, "highest"])]
        step = 1 if max(map(len, edges), default=0) <= 4 else 2
        labels = [((i + 1) / len(names), edge) for i, edge in enumerate(edges) if i % step == 0]
        return _chart(title, names, cells, training, labels, wide=wide)
    names = [f"{code} {word}".strip() for code, word in field["choices"]]
    words = [(word or str(code)).replace("_", " ") for code, word in field["choices"]]
    if len(names) > SHOWN_CHOICES:
        ranked = sorted(range(len(names)), key=lambda i: -(cells[i] or 0))[:SHOWN_CHOICES]
        names, words = [names[i] for i in ranked], [words[i] for i in ranked]
        cells = [cells[i] for i in ranked]
        training = training and [training[i] for i in ranked]
    width = max(2, LABEL * (8 if wide else 4) // len(names))
    labels = [
        ((i + 0.5) / len(words), word if len(word) <= width else f"{word[: width - 1]}…")
        for i, word in enumerate(words)
    ]
    return _chart(title, names, cells, training, labels, wide=wide)


def _chart(
    title: str,
    names: Sequence[str],
    cells: Sequence[int | None],
    training: Sequence[float] | None,
    labels: Iterable[tuple[float, str]],
    *,
    wide: bool = False,
    marks: Iterable[float] = (),
) -> str:
    """Bars of a batch next to those of training; labels and marks are at shares of the width."""
    total = sum(cell for cell in cells if cell is not None)
    here = [None if cell is None else cell / max(1, total) for cell in cells]
    there = training or [0.0] * len(cells)
    top = max(0.01, *(share or 0 for share in here), *there)
    full = 2 * WIDTH if wide else WIDTH
    slot = full / len(cells)
    bar = slot * (0.4 if training else 0.8)
    drawn = []
    for i, (name, share, known) in enumerate(zip(names, here, there, strict=True)):
        left = i * slot + slot * 0.1
        rows = "withheld" if share is None else f"{percent(share)} here"
        text = f"{name}: {rows}" + (f", {percent(known)} in training" if training else "")
        drawn.append(f"<g><title>{escape(text)}</title>")
        if share is None:
            x, y = left + bar / 2, FLOOR - 4
            drawn.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">–</text>')
        else:
            drawn.append(_bar("here", left, bar, share / top))
        if training:
            drawn.append(_bar("there", left + bar, bar, known / top))
        drawn.append("</g>")
    drawn += [
        f'<line class=mark x1="{mark * full:.1f}" x2="{mark * full:.1f}" y1="2" y2="{FLOOR}"/>'
        for mark in marks
    ]
    drawn += [
        f'<text x="{min(max(place * full, 8), full - 8):.1f}" y="{FLOOR + 14}" '
        f'text-anchor="middle">{escape(label)}</text>'
        for place, label in labels
    ]
    return (
        f'<svg viewBox="0 0 {full} {HEIGHT - 6}" role="img" aria-label="Histogram of '
        f'{escape(title)}"><line class=axis x1="0" x2="{full}" y1="{FLOOR}" y2="{FLOOR}"/>'
        f"{''.join(drawn)}</svg>"
    )


def _bar(kind: str, left: float, width: float, height: float) -> str:
    tall = height * (FLOOR - 6)
    return (
        f'<rect class={kind} x="{left:.1f}" y="{FLOOR - tall:.1f}" width="{width:.1f}" '
        f'height="{tall:.1f}" rx="1"/>'
    )


def _rejections(codes: dict[str, int], profile: dict[str, Any] | None) -> str:
    if profile is None:
        known: list[dict[str, Any]] = [
            {"code": code, "field": None, "rows": rows, "first_rows": []}
            for code, rows in codes.items()
        ]
    else:
        known = profile["rejections"]
    rows = "".join(
        f"<tr><td>{escape(WHY.get(one['code'], one['code']))} "
        f"<span class='muted small'>({escape(one['code'])})</span></td>"
        f"<td><code>{escape(one['field'] or '')}</code></td>"
        f"<td class=num>{one['rows']:,}</td>"
        f"<td>{', '.join(f'{row:,}' for row in one['first_rows'])}</td></tr>"
        for one in sorted(known, key=lambda one: -one["rows"])
    )
    head = "<tr><th>Reason<th>Field<th class=num>Rows<th>First rows</tr>"
    return _card("Rejected rows", f"<div class=scroll><table>{head}{rows}</table></div>")


def _about(summary: dict[str, Any], profile: dict[str, Any] | None) -> str:
    identity, times = summary["identity"], summary["times"]
    source = (
        f"{identity['container']}/{identity['blob']}, version {identity['etag']}"
        if "blob" in identity
        else f"in the message, SHA-256 {identity.get('sha256')}"
    )
    facts = [
        ("Input", source),
        ("Model", f"{summary['model']['name']} {summary['model']['version']}"),
        ("SHA-256 of the model", str(summary["model"]["sha256"])),
        ("Plan", str(summary["plan"])),
        *((name.capitalize(), str(times[name])) for name in ("sent", "started", "finished")),
    ]
    if profile and profile["other_coding"]["rows"]:
        signs = ", ".join(f"{s['field']} ({s['coding']})" for s in profile["other_coding"]["signs"])
        rows = profile["other_coding"]["rows"]
        facts.append(("Another coding", f"{rows:,} rows prove it: {signs}"))
    rows = "".join(f"<tr><th>{escape(n)}<td>{escape(value)}</tr>" for n, value in facts)
    note = (
        f"<p class='small muted'>Counts of fewer than {profile['withheld_below']} rows are "
        "withheld. The page holds no value and no id of a record.</p>"
        if profile
        else ""
    )
    return _card("About this batch", f"<div class=scroll><table>{rows}</table></div>{note}")


def _card(title: str, content: str) -> str:
    return f"<section class=card><h2>{escape(title)}</h2>{content}</section>"
