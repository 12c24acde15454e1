"""Reports on the worker: its presence record, the queue's gauges, a line in the log each minute.

No batch depends on a report: one that fails is logged once and tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from shared import __version__, metrics
from shared.batches.ports import Notes, Queue
from shared.batches.presence import (
    RENEW_SECONDS,
    Presence,
    delete_old_records,
    delete_presence,
    write_presence,
)
from shared.records.errors import ScorerError

log = logging.getLogger(__name__)

ALIVE_EVERY = 2
"""Reports for each `worker_alive` in the log: one minute."""
PEEK = 32
"""Most messages that one peek shows."""
CALL_LIMIT = 10
"""Seconds that each part of a report may take."""


def worker_id() -> str:
    """A name that no other worker has: host, process, four random characters."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


class Reporter:
    """Writes a report every 30 seconds until it is cancelled."""

    def __init__(
        self,
        queue: Queue,
        poison: Queue,
        notes: Notes,
        *,
        model: str,
        slots: int,
        in_use: Callable[[], int],
        last_outcome: Callable[[], dict[str, str] | None],
    ) -> None:
        self._queue = queue
        self._poison = poison
        self._notes = notes
        self._model = model
        self._slots = slots
        self._in_use = in_use
        self._last_outcome = last_outcome
        self._worker = worker_id()
        self._started = datetime.now(UTC)
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Report until cancelled; then delete the record."""
        try:
            await self._attempt("sweep", delete_old_records(self._notes))
            number = 0
            while True:
                await self.report()
                if number % ALIVE_EVERY == 0:
                    self._log_alive()
                number += 1
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            # Best effort: a record that remains is shown as gone after a while.
            with suppress(ScorerError, TimeoutError):
                async with asyncio.timeout(CALL_LIMIT):
                    await delete_presence(self._notes, self._worker)

    async def report(self) -> None:
        """Renew the record and set the gauges."""
        await self._attempt("presence", write_presence(self._notes, self._presence()))
        await self._attempt("queue", self._measure_queue())
        await self._attempt("poison", self._measure_poison())

    def _presence(self) -> Presence:
        return Presence(
            self._worker,
            self._model,
            __version__,
            self._slots,
            self._in_use(),
            self._started.isoformat(timespec="seconds"),
            self._last_outcome(),
        )

    async def _measure_queue(self) -> None:
        seen = await self._queue.peek(PEEK)
        waiting = len(seen)
        if waiting == PEEK:
            waiting = max(PEEK, await self._queue.length() - self._in_use())
        metrics.WAITING.set(waiting)
        ages = [(message.received - message.inserted).total_seconds() for message in seen]
        metrics.OLDEST.set(max(ages, default=0))

    async def _measure_poison(self) -> None:
        metrics.POISON_MESSAGES.set(await self._poison.length())

    async def _attempt(self, what: str, call: Awaitable[None]) -> None:
        """Make a part of the report; log its first failure in a row."""
        try:
            async with asyncio.timeout(CALL_LIMIT):
                await call
            self._failing.discard(what)
        except (ScorerError, TimeoutError) as error:
            if what not in self._failing:
                self._failing.add(what)
                reason = str(error) or f"no answer within {CALL_LIMIT} s"
                log.warning("report_failed", extra={"part": what, "reason": reason})

    def _log_alive(self) -> None:
        last = self._last_outcome() or {}
        log.info(
            "worker_alive",
            extra={
                "slots": self._slots,
                "in_use": self._in_use(),
                "last_batch_id": last.get("batch_id"),
                "last_status": last.get("status"),
            },
        )
