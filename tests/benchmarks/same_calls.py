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
from collections.abc import Coroutine
from typing import Any

import uvloop
from pydantic import SecretStr

from shared.batches.ports import Message
from shared.settings import StorageSettings
from shared.storage.azure import Storage, open_storage
from worker.consumer import IN_HAND

# Bytes, as the worker's.
RESULT, SUMMARY, COMMIT = b"x" * 96, b"x" * 978, {"commit": "x" * 671}


async def consume(storage: Storage, name: str, slots: int) -> float:
    """As the worker: no message keeps its slot while it is written, and each free slot has a look.

    So many messages in hand at most as the worker would have.
    """
    queue, blobs = storage.queue(name), storage.blobs()
    looking: set[asyncio.Task[None]] = set()
    ending: set[asyncio.Task[None]] = set()
    asked, empty = 0, False
    finished: list[float] = []

    async def look(limit: int) -> None:
        nonlocal asked, empty
        messages = await queue.receive(limit, 60)
        asked, empty = asked - limit, not messages
        for message in messages:
            start(end(message), ending)

    async def end(message: Message) -> None:
        for _ in range(2):  # the next look goes out first, as the worker's
            await asyncio.sleep(0)
        scores = f"{message.id}/scores.jsonl"
        await blobs.create("scores", scores, RESULT, "application/x-ndjson", COMMIT)
        await blobs.create("scores", f"{message.id}/summary.json", SUMMARY, "application/json")
        finished.append(time.perf_counter())
        await queue.delete(message)

    def start(calls: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(calls)
        among.add(task)
        task.add_done_callback(among.discard)

    while True:
        free = slots - asked
        if free > 0 and len(ending) <= (IN_HAND - 1) * slots and not empty:
            asked += free
            start(look(free), looking)
        elif busy := looking | ending:
            await asyncio.wait(busy, return_when="FIRST_COMPLETED")
        else:
            return finished[-1] - finished[0]


async def main() -> None:
    """Run over the storage that the environment names."""
    text = SecretStr(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
    async with open_storage(StorageSettings(connection_string=text)) as storage:
        print(json.dumps({"seconds": await consume(storage, sys.argv[1], int(sys.argv[2]))}))


if __name__ == "__main__":
    uvloop.run(main())  # as the worker does
