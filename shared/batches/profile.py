"""The profile of a batch: its records, its scores, and how far both are from training.

It is made from the counts of all blocks (`shared.records.tally`) and depends on the plan alone, so
every delivery makes the same bytes. Times are left to the summary for that reason.

A profile must not identify a record. Cells of one to four rows are withheld (null). Where cells
add up to a known total, the next smallest are withheld with them until the withheld cells hold five
rows or more. A batch of fewer than five scored rows shows no cells at all. Indexes are computed
from the cells that are shown. Rejected rows are numbered: a rejection says only that a row is
faulty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from shared.records.coding import FEWEST_ROWS, stability_index
from shared.records.counts import MARK_BITS
from shared.records.tally import mean_of, sum_exponent

if TYPE_CHECKING:
    from shared.records.artifact import Manifest
    from shared.records.counts import Counts
    from shared.records.reference import FieldReference, Reference
    from shared.records.schema import FieldSpec
    from shared.records.tally import FieldTally, Tally

SCHEMA = "heart-scorer-profile/1"
FEWEST = 5
"""Cells of fewer rows are withheld."""
SHIFTED, FAR = 0.1, 0.25
"""Stability indexes from which a distribution has shifted, and is far away; by convention."""

Cells = list[int | None]
"""Counts; None is withheld."""

Reading = Literal["like training", "shifted", "far from training", "too few rows", "no reference"]


def make_profile(
    tally: Tally, counts: Counts, manifest: Manifest, about: Mapping[str, object]
) -> bytes:
    """The content of `profile.json`. `about` names the batch: its id, identity, plan and model."""
    reference, table = manifest.reference, manifest.fields
    fields = [
        _field(spec, field, tally.scored, reference)
        for spec, field in zip(table.fields, tally.fields, strict=True)
    ]
    profile = {
        "schema": SCHEMA,
        **about,
        "nouns": manifest.nouns,
        "rows": {
            "total": counts.rows,
            "scored": counts.rows - counts.rejected,
            "rejected": counts.rejected,
            "with_warnings": counts.warned,
        },
        "training_rows": reference.rows if reference else None,
        "fields": fields,
        "scores": _scores(tally, manifest),
        "rejections": [
            {"code": code, "field": name or None, "rows": r.rows, "first_rows": r.first_rows}
            for (code, name), r in sorted(tally.rejections.items())
        ],
        "warnings": {
            field["name"]: _total(field["below"], field["above"])
            for field in fields
            if field["used"] and (field["below"], field["above"]) != (0, 0)
        },
        "other_coding": {
            "rows": counts.other_coding,
            "signs": [
                {"field": name, "coding": coding}
                for index, (name, coding) in enumerate(table.coding_marks[:MARK_BITS])
                if counts.marks >> index & 1
            ],
        },
        "withheld_below": FEWEST,
    }
    return json.dumps(profile, indent=1).encode()


def _field(
    spec: FieldSpec, tally: FieldTally, scored: int, reference: Reference | None
) -> dict[str, Any]:
    missing, *cells = withhold([tally.missing, *tally.bins])
    present = scored - tally.missing
    below, _, above = withhold([tally.below, present - tally.below - tally.above, tally.above])
    if 0 < scored < FEWEST:
        below = above = None
    known = reference.fields.get(spec.name) if reference else None
    is_number = spec.kind == "number"
    return {
        "name": spec.name,
        "title": spec.title,
        "unit": spec.unit,
        "kind": spec.kind,
        "used": spec.used,
        "count": None if missing is None else present,
        "missing": missing,
        "below": below,
        "above": above,
        "training_range": list(spec.training),
        **(
            {
                "edges": list(known.edges) if known else [],
                "mean": mean_of(tally.total, present, sum_exponent(spec))
                if present >= FEWEST
                else None,
            }
            if is_number
            else {"choices": [[c.code, c.word or c.title] for c in spec.choices]}
        ),
        "counts": cells,
        "training": {"missing": known.missing, "mean": known.mean, "shares": list(known.shares)}
        if known
        else None,
        **comparison(
            [missing, *cells], scored, shares_of(known), reference.rows if reference else None
        ),
    }


def shares_of(known: FieldReference | None) -> list[float]:
    """Shares of the missing values and of each bin among all training rows."""
    if known is None:
        return []
    return [known.missing, *((1 - known.missing) * share for share in known.shares)]


def _scores(tally: Tally, manifest: Manifest) -> dict[str, Any]:
    reference = manifest.reference
    scale = manifest.answer_kind.scale(reference.score_edges if reference else ())
    shares = list(reference.scores) if reference else []
    threshold = scale.threshold
    positive, _ = withhold([tally.positive, tally.scored - tally.positive])
    if threshold is None or positive is None:
        cells = withhold(tally.scores)
    else:  # the rows on each side of the threshold are known, so each side is a total
        split = sum(edge < threshold for edge in scale.edges) + 1
        cells = withhold(tally.scores[:split]) + withhold(tally.scores[split:])
    has_mean = not scale.names and tally.scored >= FEWEST
    return {
        "kind": "category" if scale.names else "number",
        "unit": scale.unit,
        **(
            {"choices": [[name, ""] for name in scale.names]}
            if scale.names
            else {"edges": list(scale.edges), "limits": scale.limits}
        ),
        "counts": cells,
        "mean": mean_of(tally.score_total, tally.scored, scale.exponent) if has_mean else None,
        "thresholds": []
        if threshold is None
        else [
            {
                "threshold": threshold,
                "rows": positive,
                "share": None if positive is None else _rounded(positive / max(1, tally.scored)),
            }
        ],
        "training": {"mean": reference.mean_score, "shares": shares}
        if reference and len(shares) == len(cells)
        else None,
        **comparison(cells, tally.scored, shares, reference.rows if reference else None),
    }


def withhold(cells: Sequence[int]) -> Cells:
    """The cells of one total without those that could tell of fewer than `FEWEST` rows."""
    small = {index for index, rows in enumerate(cells) if 0 < rows < FEWEST}
    others = sorted((i for i, rows in enumerate(cells) if rows >= FEWEST), key=lambda i: cells[i])
    while small and sum(cells[i] for i in small) < FEWEST:
        if not others:  # the total has no more rows than that
            return [None] * len(cells)
        small.add(others.pop(0))
    return [None if index in small else rows for index, rows in enumerate(cells)]


def filled(cells: Sequence[float | None], total: int, shares: Sequence[float]) -> list[float]:
    """Cells in which withheld rows are distributed as in training, to give the benefit of the
    doubt."""
    hidden = sum(share for cell, share in zip(cells, shares, strict=True) if cell is None)
    rest = total - sum(cell for cell in cells if cell is not None)
    return [
        rest * share / hidden if cell is None else cell
        for cell, share in zip(cells, shares, strict=True)
    ]


def comparison(
    cells: Sequence[float | None],
    rows: int,
    shares: Sequence[float],
    training_rows: int | None,
) -> dict[str, Any]:
    """Population stability index of the cells against training's shares, and its reading."""
    if training_rows is None or len(shares) != len(cells):
        return {"psi": None, "reading": "no reference"}
    if rows < FEWEST_ROWS:
        return {"psi": None, "reading": "too few rows"}
    psi = _rounded(stability_index(filled(cells, rows, shares), shares))
    return {"psi": psi, "reading": reading_of(psi, len(cells), rows, training_rows)}


def reading_of(psi: float, cells: int, rows: int, other_rows: int) -> Reading:
    """An index in words. Few rows differ by chance, so they need a larger one.

    By chance alone the index is about (1/n + 1/m) times a chi-square of as many degrees of
    freedom as there are cells, less one (Yurdakul 2018); three deviations above its mean count.
    """
    degrees = cells - 1
    chance = (degrees + 3 * math.sqrt(2 * degrees)) * (1 / rows + 1 / other_rows)
    if psi < max(SHIFTED, chance):
        return "like training"
    return "shifted" if psi < max(FAR, chance) else "far from training"


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def _total(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
