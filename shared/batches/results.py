"""What stands in storage of a batch: where its blobs are, its outcome, how far it has come."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.records.errors import NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Blobs
    from shared.records.counts import Counts

INCOMING, UPLOADS, SCORES = "incoming", "uploads", "scores"
"""Containers: what others drop, what our own senders write, what the worker writes."""
FORMATS = ("csv", "jsonl")
"""Of results; also their names' ends."""
COMMIT = "commit"
"""Name of the metadata in which a result carries all that its summary is made from."""
COMMITTED = frozenset({"identity", "message_id", "counts"})
"""What is in every such commit, among else."""


def scores_name(batch_id: str, kind: str) -> str:
    """Name of a batch's result in one of `FORMATS`."""
    return f"{batch_id}/scores.{kind}"


def summary_name(batch_id: str) -> str:
    """Name of a batch's summary, which is its outcome."""
    return f"{batch_id}/summary.json"


async def read_summary(blobs: Blobs, batch_id: str) -> dict[str, Any] | None:
    """The outcome of a batch; None: there is none yet. Raises `NotFound` without the container."""
    try:
        content = await blobs.read(SCORES, summary_name(batch_id))
    except NotFound as error:
        if error.reason == "ContainerNotFound":
            raise
        return None
    found: dict[str, Any] = json.loads(content)
    return found


def commit_metadata(commit: Mapping[str, object]) -> dict[str, str]:
    """What a result's metadata carry: JSON, in base64 where a name is not plain ASCII.

    One entry, since storage and its SDK take their time over each.
    """
    text = json.dumps(commit, ensure_ascii=False)
    if not (text.isascii() and text.isprintable()):  # a header carries nothing else
        text = base64.b64encode(text.encode()).decode()
    return {COMMIT: text}


def read_commit(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The same, read back. None: no worker wrote this."""
    text = metadata.get(COMMIT, "")
    try:
        found = json.loads(text if text.startswith("{") else base64.b64decode(text, validate=True))
    except ValueError:  # whatever somebody else put there
        return None
    return found if isinstance(found, dict) and found.keys() >= COMMITTED else None


async def is_known(blobs: Blobs, batch_id: str) -> bool:
    """Whether a batch was sent from here; others leave no request."""
    with suppress(NotFound):
        await blobs.facts(UPLOADS, f"{batch_id}/request")
        return True
    return False


async def counts_so_far(blobs: Blobs, batch_id: str) -> Counts | None:
    """What happened to the rows that are stored already. None: the worker has stored nothing."""
    # Here, since they bring NumPy, and the command line's help is to come at once.
    from shared.batches.checkpoint import furthest_blocks
    from shared.records.counts import Counts

    for kind in FORMATS:
        name = scores_name(batch_id, kind)
        staged = await blobs.staged(SCORES, name)
        if staged:
            counts = Counts()
            for block in furthest_blocks(staged):
                counts.add(block.counts)
            return counts
        # Committed, and the summary is about to follow.
        with suppress(NotFound):
            facts = await blobs.facts(SCORES, name)
            if (commit := read_commit(facts.metadata)) is not None:
                return Counts.of(commit["counts"])
    return None
