"""Names and formats of a batch's blobs, and how to read its outcome."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.records.errors import NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Blobs

INCOMING, UPLOADS, SCORES = "incoming", "uploads", "scores"
"""Containers: dropped files, files of our own senders, and what the worker writes."""
COMMIT = "commit"
"""Name of the metadata in which a result carries all that its summary is made from."""
COMMITTED = frozenset({"identity", "message_id", "counts"})
"""Members that every such commit has."""


def scores_name(batch_id: str, kind: str) -> str:
    """Name of a batch's result in one of `OUTPUT_FORMATS`."""
    return f"{batch_id}/scores.{kind}"


def summary_name(batch_id: str) -> str:
    """Name of a batch's summary, which is its outcome."""
    return f"{batch_id}/summary.json"


def profile_name(batch_id: str) -> str:
    """Name of a batch's profile."""
    return f"{batch_id}/profile.json"


def counts_name(batch_id: str, plan: str) -> str:
    """Name of the counts of a result's blocks, of which its profile is made."""
    return f"{batch_id}/counts-{plan}"


def claim_name(batch_id: str) -> str:
    """Name of the blob that binds an id which a sender chose to the first input that claims it."""
    return f"{batch_id}/claim"


async def read_claim(blobs: Blobs, batch_id: str) -> dict[str, Any] | None:
    """The claim on a batch id: `identity` of the input and `message_id`. None: there is none."""
    return await _read_object(blobs, claim_name(batch_id))


def same_identity(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two inputs are the same. An etag that is not known matches any."""
    either = dict(one), dict(other)
    etags = [identity.pop("etag", None) for identity in either]
    return either[0] == either[1] and (None in etags or etags[0] == etags[1])


async def read_summary(blobs: Blobs, batch_id: str) -> dict[str, Any] | None:
    """The outcome of a batch; None: there is none yet. Raises `NotFound` without the container."""
    return await _read_object(blobs, summary_name(batch_id))


async def _read_object(blobs: Blobs, name: str) -> dict[str, Any] | None:
    try:
        content = await blobs.read(SCORES, name)
    except NotFound as error:
        if error.reason == "ContainerNotFound":
            raise
        return None
    found: dict[str, Any] = json.loads(content)
    return found


async def read_profile(blobs: Blobs, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The profile that a summary names. None: the batch has none."""
    named = summary.get("profile")
    if named is None:
        return None
    try:
        found: dict[str, Any] = json.loads(await blobs.read(SCORES, named["blob"]))
    except NotFound:
        return None
    return found


def commit_metadata(commit: Mapping[str, object]) -> dict[str, str]:
    """Metadata of a result: JSON, in base64 where a name is not plain ASCII.

    One entry, since storage and its SDK take their time over each.
    """
    text = json.dumps(commit, ensure_ascii=False)
    if not (text.isascii() and text.isprintable()):  # a header carries nothing else
        text = base64.b64encode(text.encode()).decode()
    return {COMMIT: text}


def read_commit(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The reverse of `commit_metadata`. None: no worker wrote this."""
    text = metadata.get(COMMIT, "")
    try:
        found = json.loads(text if text.startswith("{") else base64.b64decode(text, validate=True))
    except ValueError:  # another program wrote it
        return None
    return found if isinstance(found, dict) and found.keys() >= COMMITTED else None
