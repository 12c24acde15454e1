"""Where a batch stands. Its outcome is its summary and nothing else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from api.problems import Problem
from api.store import SCORES, UPLOADS
from shared.checkpoint import furthest_blocks
from shared.errors import NotFound
from shared.tables import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.ports import Blobs

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


async def read_summary(blobs: Blobs, batch_id: str) -> Mapping[str, Any] | None:
    """The outcome of a batch; None: there is none yet."""
    try:
        content = await blobs.read(SCORES, f"{batch_id}/summary.json")
    except NotFound:
        return None
    found: dict[str, Any] = json.loads(content)
    return found


async def state_of(blobs: Blobs, batch_id: str) -> dict[str, Any]:
    """Where a batch stands. Raises `Problem` when nothing is known of it."""
    summary = await read_summary(blobs, batch_id)
    if summary is not None:
        return {
            "batch_id": batch_id,
            "status": summary["status"],
            "rows": {name: summary["rows"][name] for name in ("total", "scored", "rejected")},
        } | {name: summary[name] for name in SHOWN if summary.get(name) is not None}
    known = await _is_known(blobs, batch_id)
    rows = await _rows_done(blobs, batch_id)
    if rows is None and not known:
        raise Problem("not_found", "there is no such batch")
    return {
        "batch_id": batch_id,
        "status": "queued" if rows is None else "running",
        "rows": rows or {"total": 0, "scored": 0, "rejected": 0},
    }


async def _is_known(blobs: Blobs, batch_id: str) -> bool:
    with suppress(NotFound):
        await blobs.facts(UPLOADS, f"{batch_id}/request")
        return True
    return False


async def _rows_done(blobs: Blobs, batch_id: str) -> dict[str, int] | None:
    """Rows scored so far, by the staged blocks. None: the worker has not begun."""
    for kind in ("csv", "jsonl"):
        name = f"{batch_id}/scores.{kind}"
        staged = await blobs.staged(SCORES, name)
        if staged:
            counts = Counts()
            for block in furthest_blocks(staged):
                counts.add(block.counts)
            return _rows(counts)
        # Committed, and the summary is about to follow.
        with suppress(NotFound):
            facts = await blobs.facts(SCORES, name)
            return _rows(Counts.of(json.loads(facts.metadata["counts"])))
    return None


def _rows(counts: Counts) -> dict[str, int]:
    scored = counts.rows - counts.rejected
    return {"total": counts.rows, "scored": scored, "rejected": counts.rejected}
