"""Calls of tests to the running services, as a user makes them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from shared.batches.message import Envelope, EnvelopeInput
from shared.records.errors import NotFound
from shared.storage.azure import Storage

QUEUE = "patient-batches"


def post(url: str, body: object) -> tuple[int, Any]:
    """POST JSON; status and parsed answer."""
    answer = httpx.post(url, json=body, timeout=60)
    return answer.status_code, answer.json()


def get(url: str) -> tuple[int, bytes]:
    """GET; status and body."""
    answer = httpx.get(url, timeout=60)
    return answer.status_code, answer.content


async def send_file(storage: Storage, batch_id: str, suffix: str, content: bytes) -> None:
    """Upload a file and send its envelope."""
    name = batch_id + suffix
    await storage.blobs().create("uploads", name, content, "application/octet-stream")
    envelope = Envelope(batch_id=batch_id, input=EnvelopeInput(container="uploads", blob=name))
    await storage.queue(QUEUE).send(envelope.text())


async def outcome(storage: Storage, batch_id: str, seconds: float = 120) -> dict[str, Any]:
    """Wait for a batch's summary."""
    for _ in range(int(seconds / 0.1)):
        try:
            content = await storage.blobs().read("scores", f"{batch_id}/summary.json")
        except NotFound:
            await asyncio.sleep(0.1)
        else:
            summary: dict[str, Any] = json.loads(content)
            return summary
    raise AssertionError(f"no summary of {batch_id} within {seconds} s")


async def scores(storage: Storage, summary: dict[str, Any]) -> bytes:
    """The result that a summary names."""
    output = summary["output"]
    return await storage.blobs().read(output["container"], output["blob"])
