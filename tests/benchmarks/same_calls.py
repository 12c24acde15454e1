"""A worker that makes our worker's storage calls for each message and computes nothing.

`python -m tests.benchmarks.same_calls QUEUE SLOTS` with Azurite's connection string in
AZURE_STORAGE_CONNECTION_STRING. Ends when the queue is empty; prints the seconds between the first
summary and the last as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop
from pydantic import SecretStr

from shared.batches.ports import Message
from shared.settings import StorageSettings
from shared.storage.azure import Storage, open_storage

# Bytes, as the worker's.
RESULT, SUMMARY, COMMIT = b"x" * 96, b"x" * 978, {"commit": "x" * 671}


async def consume(storage: Storage, name: str, slots: int) -> float:
    """Receive as many messages as there are free slots, and end each in a slot of its own."""
    queue, blobs = storage.queue(name), storage.blobs()
    running: set[asyncio.Task[None]] = set()
    finished: list[float] = []

    async def end(message: Message) -> None:
        scores = f"{message.id}/scores.jsonl"
        await blobs.create("scores", scores, RESULT, "application/x-ndjson", COMMIT)
        await blobs.create("scores", f"{message.id}/summary.json", SUMMARY, "application/json")
        finished.append(time.perf_counter())
        await queue.delete(message)

    while True:
        messages = await queue.receive(slots - len(running), 60)
        running |= {asyncio.create_task(end(message)) for message in messages}
        if not running:
            return finished[-1] - finished[0]
        if not messages or len(running) == slots:
            _, running = await asyncio.wait(running, return_when="FIRST_COMPLETED")


async def main() -> None:
    """Run over the storage that the environment names."""
    text = SecretStr(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
    async with open_storage(StorageSettings(connection_string=text)) as storage:
        print(json.dumps({"seconds": await consume(storage, sys.argv[1], int(sys.argv[2]))}))


if __name__ == "__main__":
    uvloop.run(main())  # as the worker does
