"""Drift: profiles of many batches added up, and compared with training and with earlier batches.

Only profiles of one model are added, because other models have other bins. Rows that a profile
withholds are distributed as in training, so the sums are approximate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.batches.profile import comparison, filled
from shared.batches.results import read_profile, read_summary
from shared.batches.status import ListedBatch, list_batches
from shared.records.coding import FEWEST_ROWS

if TYPE_CHECKING:
    from shared.batches.ports import Blobs, BlobStore

AT_ONCE = 20
"""Batches that are read at the same time."""


class ProfileSum:
    """Profiles of batches of one model, added up."""

    def __init__(self, first: dict[str, Any]) -> None:
        self._first = first
        self._parts = [_PartSum(part) for part in _parts(first)]
        self._rows = dict.fromkeys(first["rows"], 0)
        self.batches = 0
        self.add(first)

    def add(self, profile: dict[str, Any]) -> None:
        self.batches += 1
        for key, rows in profile["rows"].items():
            self._rows[key] += rows
        for part, added in zip(self._parts, _parts(profile), strict=True):
            part.add(added, profile["rows"]["scored"])

    def profile(self) -> dict[str, Any]:
        """The profile of all batches together; counts may be fractions."""
        *fields, scores = self._parts
        scored, rows = self._rows["scored"], self._first["training_rows"]
        return self._first | {
            "rows": self._rows,
            "fields": [field.part(scored, rows) for field in fields],
            "scores": scores.part(scored, rows),
        }


class _PartSum:
    """One field, or the scores, of several profiles."""

    def __init__(self, first: dict[str, Any]) -> None:
        self._first = first
        self._cells = [0.0] * len(_cells(first))
        self._outside = [0, 0]
        self._total, self._count = 0.0, 0.0

    def add(self, part: dict[str, Any], scored: int) -> None:
        cells = filled(_cells(part), scored, _shares(part) or [1] * len(self._cells))
        self._cells = [one + other for one, other in zip(self._cells, cells, strict=True)]
        for side, name in enumerate(("below", "above")):
            self._outside[side] += part.get(name) or 0
        if part.get("mean") is not None:
            count = scored - (cells[0] if "missing" in part else 0)
            self._total += part["mean"] * count
            self._count += count

    def part(self, scored: int, training_rows: int | None) -> dict[str, Any]:
        found = self._first | {"counts": self._cells}
        if "missing" in found:
            missing, *counts = self._cells
            below, above = self._outside
            found |= {"missing": missing, "count": scored - missing, "counts": counts}
            found |= {"below": below, "above": above}
        if "mean" in found:
            found["mean"] = self._total / self._count if self._count else None
        return found | comparison(self._cells, scored, _shares(found), training_rows)


def compared_with(profile: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The sum of some profiles, compared with an earlier sum as if that were training."""
    rows = before["rows"]["scored"]

    def compare(part: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        if rows < FEWEST_ROWS:
            return part | {"psi": None, "reading": "too few rows"}
        missing = known.get("missing", 0)
        there = {
            "missing": _smoothed([missing, rows - missing])[0],
            "mean": known.get("mean"),
            "shares": _smoothed(known["counts"]),
        }
        found = part | {"training": there}
        return found | comparison(_cells(found), profile["rows"]["scored"], _shares(found), rows)

    *fields, scores = map(compare, _parts(profile), _parts(before))
    return profile | {"fields": fields, "scores": scores, "training_rows": rows}


@dataclass(slots=True)
class Drift:
    """Batches of a period, and of the period of the same length before it."""

    now: ProfileSum | None = None
    """None: no batch of the period has a profile."""
    before: ProfileSum | None = None
    model: dict[str, str] | None = None
    """The model of the newest profile; only its batches are added."""
    without_profile: int = 0
    """Batches of the period that have none."""
    other_models: int = 0
    """Batches of the period that another model scored."""

    def add(self, profile: dict[str, Any] | None, *, is_now: bool) -> None:
        """Add the next older batch; None: it has no profile."""
        if profile is None:
            self.without_profile += is_now
            return
        self.model = self.model or profile["model"]
        if profile["model"]["sha256"] != self.model["sha256"]:
            self.other_models += is_now
            return
        known = self.now if is_now else self.before
        if known is not None:
            known.add(profile)
        elif is_now:
            self.now = ProfileSum(profile)
        else:
            self.before = ProfileSum(profile)


async def read_drift(blobs: BlobStore, since: datetime, now: datetime) -> Drift:
    """Add up the profiles of batches that succeeded from `since` to `now`, and as long before.

    Reads the summary and the profile of each.
    """
    begin = since - (now - since)
    found = Drift()
    listed = [one for one in await list_batches(blobs) if one.finished and one.time >= begin]
    for start in range(0, len(listed), AT_ONCE):
        page = listed[start : start + AT_ONCE]
        summaries = await asyncio.gather(*(_read(blobs, batch) for batch in page))
        for batch, (succeeded, profile) in zip(page, summaries, strict=True):
            if succeeded:
                found.add(profile, is_now=batch.time >= since)
    return found


async def _read(blobs: Blobs, batch: ListedBatch) -> tuple[bool, dict[str, Any] | None]:
    summary = await read_summary(blobs, batch.batch_id)
    if summary is None or summary["status"] != "succeeded":
        return False, None
    return True, await read_profile(blobs, summary)


def _parts(profile: dict[str, Any]) -> list[dict[str, Any]]:
    return [*profile["fields"], profile["scores"]]


def _cells(part: dict[str, Any]) -> list[Any]:
    """All cells of one total: the missing values of a field, then the bins."""
    return [part["missing"], *part["counts"]] if "missing" in part else part["counts"]


def _shares(part: dict[str, Any]) -> list[float]:
    """Shares of these cells in training; empty if they are not known."""
    training = part["training"]
    if training is None:
        return []
    if "missing" not in part:
        return list(training["shares"])
    missing = training["missing"]
    return [missing, *((1 - missing) * share for share in training["shares"])]


def _smoothed(counts: Sequence[float]) -> list[float]:
    """Shares of counts; half a row is added to each, so that none is zero."""
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]
