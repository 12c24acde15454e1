"""Differences between a batch and the training data, or earlier batches, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

MISSING, OUTSIDE = 0.05, 0.05
"""Shares of rows from which missing values, and values outside the training range, are reported."""
LIKE_TRAINING = "like training"
COMPARED = (LIKE_TRAINING, "shifted", "far from training")
"""Readings of what could be compared."""


def differences(profile: dict[str, Any], there: str = "in training") -> list[str]:
    """Sentences for people, the largest differences first. Names are in backquotes.

    `there` names what the profile was compared with.
    """
    found = sorted(
        (
            (field["psi"] or 0, sentence)
            for field in profile["fields"]
            if field["used"]
            for sentence in _of_field(field, profile, there)
        ),
        key=lambda pair: -pair[0],
    )
    return [*_of_rows(profile["rows"]), *_of_scores(profile, there), *(text for _, text in found)]


def percent(share: float) -> str:
    """A share for people: `41 %`, `0.3 %`, `0 %`."""
    value = 100 * share
    return f"{value:.1f} %" if 0.05 <= value < 1 else f"{value:.0f} %"


def number(value: float) -> str:
    """A number for people: three digits, all of a whole one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _of_rows(rows: dict[str, int]) -> Iterator[str]:
    if rows["total"] and rows["rejected"] == rows["total"]:
        yield "All rows were rejected: none has a score"
    elif rows["rejected"] >= OUTSIDE * rows["total"] > 0:
        yield f"{percent(rows['rejected'] / rows['total'])} of rows were rejected"


def _of_scores(profile: dict[str, Any], there: str) -> Iterator[str]:
    scores = profile["scores"]
    if scores["reading"] not in COMPARED[1:]:
        return
    if scores["kind"] == "category":
        counted = scores | {"count": profile["rows"]["scored"]}
        yield from _of_choices(counted, "`prediction`", there, "rows")
        return
    if scores["mean"] is None or scores["training"]["mean"] is None:
        return
    here, known = number(scores["mean"]), number(scores["training"]["mean"])
    unit = f" {scores['unit']}" if scores["unit"] else ""
    if here == known:
        yield f"The scores are distributed differently than {there} (index {scores['psi']:.2f})"
    else:
        yield f"The mean score is {here}{unit}, {there} {known}{unit}"


def _of_field(field: dict[str, Any], profile: dict[str, Any], there: str) -> Iterator[str]:
    if field["reading"] not in COMPARED:
        return
    name, unit = f"`{field['name']}`", f" {field['unit']}" if field["unit"] else ""
    scored = profile["rows"]["scored"]
    training = field["training"]
    told = [*_of_missing(name, field["missing"], scored, training["missing"], there)]
    yield from told
    if not field["count"]:
        return
    if field["reading"] != LIKE_TRAINING:
        if field["kind"] == "number":
            if (sentence := _of_mean(field, name, unit, profile["nouns"], there)) is not None:
                yield sentence
            elif not told:
                yield f"{name} is distributed differently than {there} (index {field['psi']:.2f})"
        else:
            yield from _of_choices(field, name, there)
    outside = (field["below"] or 0) + (field["above"] or 0)
    if outside >= OUTSIDE * field["count"]:
        low, high = map(number, field["training_range"])
        share = percent(outside / field["count"])
        yield f"{name} is outside the training range ({low} to {high}{unit}) in {share} of rows"


def _of_missing(
    name: str, missing: int | None, scored: int, training: float, there: str
) -> Iterator[str]:
    if missing is None or not scored:
        return
    share = missing / scored
    # By chance a share differs by three deviations at most.
    chance = 3 * (training * (1 - training) / scored) ** 0.5
    if missing == scored:
        yield f"{name} is missing in all rows, {there} in {_rough(training)}"
    elif abs(share - training) >= max(MISSING, chance):
        yield f"{name} is missing in {percent(share)} of rows, {there} in {_rough(training)}"


def _rough(share: float) -> str:
    # Half a row was added to training's share.
    return f"{100 * share:.0f} %"


def _of_mean(field: dict[str, Any], name: str, unit: str, nouns: str, there: str) -> str | None:
    """How far the mean has moved; None: by little."""
    here, known = field["mean"], field["training"]["mean"]
    edges = field["edges"]
    usual = edges[-1] - edges[0] if len(edges) > 1 else 0
    if here is None or known is None or abs(here - known) < 0.1 * usual:
        return None
    by = number(float(f"{abs(here - known):.2g}"))
    means = f"on average {number(here)}{unit}, {there} {number(known)}{unit}"
    if field["title"].lower().startswith("age") and field["unit"].startswith("year"):
        years = f"{abs(here - known):.0f} years {'older' if here > known else 'younger'}"
        return f"{nouns.capitalize()} are {years}: {name} is {means}"
    return f"{name} is {by}{unit} {'higher' if here > known else 'lower'}: {means}"


def _of_choices(
    field: dict[str, Any], name: str, there: str, rows: str = "rows with a value"
) -> Iterator[str]:
    """The choice whose share differs most."""
    cells: Sequence[int | None] = field["counts"]
    shown = [
        (cell / field["count"], share, code, word)
        for cell, share, (code, word) in zip(
            cells, field["training"]["shares"], field["choices"], strict=True
        )
        if cell is not None
    ]
    if not shown:
        return
    here, known, code, word = max(shown, key=lambda choice: abs(choice[0] - choice[1]))
    meaning = f" ({word})" if word else ""
    yield f"{name} is {code}{meaning} in {percent(here)} of {rows}, {there} in {percent(known)}"
