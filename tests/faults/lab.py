"""Real worker processes over Azurite, which tests disturb and then check."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import BlobClient

from cli.local import WORKER_ENV, process
from shared.batches.message import Envelope, EnvelopeInput
from shared.batches.ports import Queue
from shared.records.artifact import Artifact, load_artifact
from shared.storage.azure import Storage
from tests.faults.invariants import Fate, GivenBack, Sent, Watch, check_promise
from tests.world import WHOLE

VISIBILITY = int(os.environ.get("FAULT_VISIBILITY", "2"))
"""Seconds; 2 is the least that the setting allows."""
SETTLED_WITHIN = 120
"""Most seconds to wait until a worker has settled what a dead one left."""
ENDS_WITHIN = 120
"""Most seconds to wait for the end of a worker that was killed or asked to stop."""


@dataclass(slots=True)
class Worker:
    """One worker process and its log."""

    child: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.child.kill()

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    async def asleep(self) -> None:
        """Frozen as soon as it is ready: it takes over the moment it is woken."""
        await self.logged("worker_started")
        self.freeze()

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    async def ended(self, seconds: float = ENDS_WITHIN) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        return await asyncio.to_thread(self.child.wait, seconds)

    async def logged(self, event: str, count: int = 1, seconds: float = 120) -> None:
        """Wait until its log has an event so many times."""
        ends = asyncio.get_running_loop().time() + seconds
        while self.log.read_text().count(event) < count:
            assert self.alive, f"ended with {self.child.returncode}: {self.log.read_text()[-3000:]}"
            assert asyncio.get_running_loop().time() < ends, f"no {event} within {seconds:g} s"
            await asyncio.sleep(0.02)


class Lab:
    """A queue of its own, batches on it, and workers that come and go."""

    def __init__(
        self, storage: Storage, connection: str, artifact_dir: Path, directory: Path
    ) -> None:
        self.storage = storage
        self._connection = connection
        self._artifact_dir = artifact_dir
        self.queue_name = f"t-{uuid.uuid4().hex[:12]}"
        self.blobs = storage.blobs()
        self.watch = Watch(self.blobs)
        self.directory = directory
        self._count = 0
        self._environment = {
            "AZURE_STORAGE_CONNECTION_STRING": connection,
            "SCORER_QUEUE": self.queue_name,
            "SCORER_MODEL_DIR": str(artifact_dir),
            "SCORER_HEALTH_PORT": "0",
            "SCORER_VISIBILITY_SECONDS": str(VISIBILITY),
            "SCORER_RENEW_SECONDS": "0.7",
            "SCORER_IDLE_SECONDS": "0.2",
            "SCORER_BLOCK_ROWS": "400",
            "SCORER_SPLIT_BYTES": os.environ.get("SCORER_SPLIT_BYTES", str(WHOLE)),
        }

    async def prepare(self) -> None:
        for name in (self.queue_name, f"{self.queue_name}-poison", f"{self.queue_name}-parts"):
            await self.storage.queue(name).create()
        for container in ("incoming", "uploads", "scores"):
            await self.blobs.create_container(container)

    @property
    def queue(self) -> Queue:
        return self.storage.queue(self.queue_name)

    @property
    def poison(self) -> Queue:
        return self.storage.queue(f"{self.queue_name}-poison")

    @property
    def parts(self) -> Queue:
        return self.storage.queue(f"{self.queue_name}-parts")

    @contextmanager
    def worker(self, fault: str = "", **environment: str) -> Iterator[Worker]:
        """A worker until the block ends; settings in capitals, `FAULT` by its place."""
        self._count += 1
        log = self.directory / f"worker-{self._count}.log"
        env = WORKER_ENV | self._environment | {"FAULT": fault} | environment
        with process([sys.executable, "-m", "tests.faults.worker"], log, env) as child:
            try:
                yield Worker(child, log)
            finally:
                if child.poll() is None:
                    child.send_signal(signal.SIGCONT)

    async def submit(self, batch: Sent, times: int = 1) -> None:
        """Upload the file and send its envelope."""
        name = batch.batch_id + batch.suffix
        await self.blobs.stage("uploads", name, "0" * 64, batch.content)
        facts = await self.blobs.commit("uploads", name, ["0" * 64], "text/csv", {})
        envelope = Envelope(
            batch_id=batch.batch_id,
            input=EnvelopeInput(container="uploads", blob=name, etag=facts.etag),
        )
        for _ in range(times):
            await self.queue.send(envelope.text())

    async def kept(self, *batches: Fate, seconds: float = 240) -> None:
        """Wait for the outcomes; then everything that was promised must hold."""
        for batch in batches:
            if not isinstance(batch, GivenBack):
                await self.watch.wait(batch.batch_id, seconds)
        await check_promise(
            self.watch, self.queue, self.poison, self.blobs, batches, lease=SETTLED_WITHIN
        )

    async def poisoned(self) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in await self.poison.peek(32)]

    async def staged_data(self, batch: Sent) -> int:
        """Number of blocks that are staged and not committed."""
        staged = await self.blobs.staged("scores", batch.scores_blob)
        return sum(entry.name.startswith("e") for entry in staged)

    async def replace(self, container: str, name: str, content: bytes) -> None:
        """Overwrite a blob, as its owner could; the product itself never does."""
        client = BlobClient.from_connection_string(self._connection, container, name)
        async with client:
            await client.upload_blob(content, overwrite=True)

    def another_model(self) -> tuple[Path, Artifact]:
        """A model whose results differ: with another threshold."""
        directory = self.directory / "another"
        shutil.copytree(self._artifact_dir, directory)
        manifest = json.loads((directory / "manifest.json").read_text())
        manifest["threshold"] = 0.9
        (directory / "manifest.json").write_text(json.dumps(manifest))
        return directory, load_artifact(directory)
