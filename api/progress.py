"""What the API shows of a batch's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.problems import Problem
from shared.batches.status import read_status

if TYPE_CHECKING:
    from shared.batches.ports import Blobs

SHOWN = (
    "reason",
    "rejections",
    "warnings",
    "other_coding_rows",
    "ignored_columns",
    "absent_fields",
    "model",
    "times",
    "replay_of",
)
"""Members of a summary that callers see beside state and rows."""


async def state_of(blobs: Blobs, batch_id: str) -> dict[str, Any]:
    """The state of a batch. Raises `Problem` when nothing is known of it."""
    found = await read_status(blobs, batch_id)
    if found is None:
        raise Problem("not_found", "there is no such batch")
    summary = found.summary or {}
    return {"batch_id": batch_id, "status": found.status, "rows": found.rows} | {
        name: summary[name] for name in SHOWN if summary.get(name) is not None
    }
