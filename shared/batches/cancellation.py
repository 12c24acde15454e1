"""Cancel a batch: one create-only summary decides between the cancellation and the worker."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.batches.results import SCORES, UPLOADS, read_summary, summary_name
from shared.records.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Blobs

OF_THE_FILE = frozenset({"sha256", "format", "gzip"})
"""Members of a request that describe the file; the others are options of the batch."""


async def cancel(blobs: Blobs, batch_id: str) -> dict[str, Any]:
    """Cancel a batch unless it has an outcome; return its summary, which says which it is.

    A worker that has the batch notices between two blocks, others when they receive the message.
    Only a batch that the API or `heart-scorer submit` sent can be cancelled: its id is bound to its
    input. Raises `NotFound` for every other one.
    """
    if (summary := await read_summary(blobs, batch_id)) is not None:
        return summary
    request = json.loads(await blobs.read(UPLOADS, f"{batch_id}/request"))
    name = f"{batch_id}/input.{request['format']}{'.gz' if request['gzip'] else ''}"
    options = {key: value for key, value in request.items() if key not in OF_THE_FILE}
    etag = None
    with suppress(NotFound):  # its upload has not ended, or the file was deleted
        etag = (await blobs.facts(UPLOADS, name)).etag
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    summary = {
        "batch_id": batch_id,
        "status": "cancelled",
        "reason": "cancelled on request",
        "poison": False,
        "rows": {"total": 0, "scored": 0, "rejected": 0, "with_warnings": 0},
        # As the worker identifies this batch: its message finds the outcome of its own input.
        "identity": options | {"container": UPLOADS, "blob": name, "etag": etag},
        "times": {"sent": None, "started": None, "finished": now},
        "message_id": None,
        "deliveries": 0,
        "replay_of": None,
        "traceparent": None,
    }
    content = json.dumps(summary, separators=(",\n ", ": ")).encode()
    try:
        await blobs.create(SCORES, summary_name(batch_id), content, "application/json")
    except AlreadyExists:  # it ended in the meantime
        return await read_summary(blobs, batch_id) or summary
    return summary
