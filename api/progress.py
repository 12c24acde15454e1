"""Where a batch stands. Its outcome is its summary and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.problems import Problem
from shared.batches.results import counts_so_far, is_known, read_summary

if TYPE_CHECKING:
    from shared.batches.ports import Blobs
    from shared.records.counts import Counts

SHOWN = (
    "reason",
    "rejections",
    "other_coding_suspected",
    "ignored_columns",
    "absent_fields",
    "model",
    "times",
    "replay_of",
)
"""What callers see of a summary, beside state and rows."""


async def state_of(blobs: Blobs, batch_id: str) -> dict[str, Any]:
    """Where a batch stands. Raises `Problem` when nothing is known of it."""
    summary = await read_summary(blobs, batch_id)
    if summary is not None:
        return {
            "batch_id": batch_id,
            "status": summary["status"],
            "rows": {name: summary["rows"][name] for name in ("total", "scored", "rejected")},
        } | {name: summary[name] for name in SHOWN if summary.get(name) is not None}
    known = await is_known(blobs, batch_id)
    counts = await counts_so_far(blobs, batch_id)
    if counts is None and not known:
        raise Problem("not_found", "there is no such batch")
    return {
        "batch_id": batch_id,
        "status": "queued" if counts is None else "running",
        "rows": _rows(counts),
    }


def _rows(counts: Counts | None) -> dict[str, int]:
    if counts is None:
        return {"total": 0, "scored": 0, "rejected": 0}
    scored = counts.rows - counts.rejected
    return {"total": counts.rows, "scored": scored, "rejected": counts.rejected}
