"""Builds the worker and runs it: `python -m worker`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time

import uvloop

from shared import metrics, tracing
from shared.batches.ports import Account
from shared.batches.presence import WORKERS
from shared.batches.results import SCORES
from shared.files.base import Limits
from shared.files.formats import preload
from shared.logs import configure_logging
from shared.records.artifact import Artifact, load_artifact
from shared.records.errors import ScorerError, StartupError
from shared.settings import WorkerSettings, load_settings
from shared.storage.azure import open_storage
from worker.consumer import Consumer
from worker.gate import Gate
from worker.health import HealthServer, StorageCheck, all_of
from worker.lease import LeaseTerms
from worker.parts import Parts
from worker.processor import INPUT_CONTAINERS, Processor
from worker.reporter import Reporter

log = logging.getLogger("worker")


def main() -> int:
    """Run until asked to stop. Exit code 3: wrong settings or artifact; 1: the model broke."""
    begun = time.monotonic()
    try:
        settings = load_settings(WorkerSettings)
        configure_logging(settings.log_level, log_format=settings.log_format)
        tracing.configure("heart-scorer-worker")
        artifact = load_artifact(
            settings.model_dir, settings.model_sha256, allow_pickle=settings.allow_pickle
        )
        gc.freeze()  # everything loaded so far stays; the collector need not visit it again
        return uvloop.run(serve(settings, artifact, begun))
    except StartupError as error:
        sys.stderr.write(f"heart-scorer worker: {error}\n")
        return 3


async def serve(settings: WorkerSettings, artifact: Artifact, begun: float) -> int:
    """Run over the storage that the settings name."""
    async with open_storage(settings) as storage:
        return await run(settings, artifact, storage, begun)


async def run(settings: WorkerSettings, artifact: Artifact, storage: Account, begun: float) -> int:
    """Connect the parts, then consume until SIGTERM or SIGINT."""
    queue, blobs = storage.queue(settings.queue), storage.blobs()
    parts_queue = storage.queue(settings.parts_queue)
    check = StorageCheck(queue, parts_queue, blobs)
    gate = Gate()
    limits = Limits(settings.block_rows, settings.block_bytes)
    parts = Parts(
        parts_queue,
        blobs,
        artifact,
        limits,
        gate,
        threshold=settings.split_bytes,
        terms=LeaseTerms(settings.visibility_seconds, settings.renew_seconds),
        stopping=lambda: consumer.stopping,
    )
    processor = Processor(
        artifact,
        storage.queue(settings.poison_queue),
        blobs,
        limits,
        gate,
        stopping=lambda: consumer.stopping,
        notes=blobs,
        parts=parts,
    )
    consumer = Consumer(
        queue,
        processor,
        gate,
        check,
        slots=settings.slots,
        visibility=settings.visibility_seconds,
        renew_every=settings.renew_seconds,
        idle=settings.idle_seconds,
        preload=preload,
        parts=parts,
    )
    health = HealthServer(
        settings.host, settings.health_port, lambda: consumer.turned, lambda: check.faults
    )
    _stop_on_signals(consumer, settings.grace_seconds)
    await _prepare(settings, storage, check, consumer)
    if not consumer.stopping:
        log.info(
            "worker_started",
            extra={
                "port": health.port,
                "model": artifact.manifest.version,
                "slots": settings.slots,
            },
        )
    reporter = Reporter(
        queue,
        storage.queue(settings.poison_queue),
        blobs,
        model=artifact.manifest.version,
        slots=settings.slots,
        in_use=lambda: consumer.in_use,
        last_outcome=lambda: processor.last_outcome,
    )
    metrics.MODEL_INFO.labels(artifact.manifest.version, artifact.sha256).set(1)
    metrics.SLOTS.set(settings.slots)
    metrics.STARTUP.set(time.monotonic() - begun)
    reporting = asyncio.create_task(reporter.run())
    try:
        await consumer.run()
    finally:
        reporting.cancel()
        await asyncio.wait({reporting})
    log.info("worker_stopped")
    return 1 if consumer.model_broken else 0


async def _prepare(
    settings: WorkerSettings, storage: Account, check: StorageCheck, consumer: Consumer
) -> None:
    """Wait until storage answers and permits all that is needed. Never gives up."""
    wait = 0.2
    while not consumer.stopping:
        try:
            if settings.connection_string is not None:
                await create_all(settings, storage)
            faults = await check()
        except ScorerError as error:
            check.faults = faults = [error.reason]
        if not faults:
            return
        log.warning("storage_not_ready", extra={"faults": faults})
        consumer.turned = time.monotonic()
        await consumer.pause(wait)
        wait = min(wait * 2, settings.idle_seconds)


async def create_all(settings: WorkerSettings, storage: Account) -> None:
    """Create queues and containers, for Azurite; on Azure the templates do."""
    queues = (settings.queue, settings.poison_queue, settings.parts_queue)
    blobs = storage.blobs()
    await all_of(
        *(storage.queue(name).create() for name in queues),
        *(blobs.create_container(name) for name in (*INPUT_CONTAINERS, SCORES, WORKERS)),
    )


def _stop_on_signals(consumer: Consumer, grace: float) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if consumer.stopping:
            consumer.interrupt()
            return
        log.info("stop_asked")
        consumer.stop()
        loop.call_later(grace, consumer.interrupt)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


if __name__ == "__main__":
    sys.exit(main())
