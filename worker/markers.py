"""Marker blocks of deliveries that began, and the excuses of those that end without blame.

A marker is staged before anything is parsed, so that a delivery that kills the process is counted.
An excuse that storage does not take is kept and written with the next success.
"""

from __future__ import annotations

import asyncio
import logging

from shared.batches.checkpoint import Marker
from shared.batches.ports import Blobs
from shared.batches.results import SCORES

log = logging.getLogger(__name__)

EXCUSE_LIMIT = 5
"""Seconds that an excuse may take: a stopping process has no more."""


class Markers:
    """Markers of one worker's deliveries."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._open: dict[str, tuple[str, Marker]] = {}
        """By message id: scores blob and marker of a delivery in work."""
        self._owed: list[tuple[str, Marker]] = []
        """Excuses that storage did not take."""

    async def begin(self, message_id: str, scores_blob: str, plan: str, blocks: int) -> None:
        """Stage the marker of a delivery that begins with this many blocks done."""
        marker = Marker.begin(plan, message_id, blocks)
        # Remembered first: a call whose answer is lost may have staged it.
        self._open[message_id] = scores_blob, marker
        await self._blobs.stage(SCORES, scores_blob, marker.name, b"b")

    def drop(self, message_id: str) -> None:
        """The batch is committed, or the delivery ended without an excuse."""
        self._open.pop(message_id, None)

    async def excuse(self, message_id: str) -> None:
        """This delivery ended for a reason that is not the message's."""
        found = self._open.pop(message_id, None)
        if found is not None:
            self._owed.append(found)
            await self.write_owed()

    async def write_owed(self) -> None:
        """Write the excuses that are owed, as far as storage takes them."""
        while self._owed:
            scores_blob, marker = owed = self._owed.pop(0)
            try:
                async with asyncio.timeout(EXCUSE_LIMIT):
                    await self._blobs.stage(SCORES, scores_blob, marker.excuse().name, b"x")
            except Exception as error:  # kept: an outage must not count against the message
                self._owed.append(owed)
                log.warning("excuse_failed", extra={"reason": type(error).__name__})
                return
            except asyncio.CancelledError:
                self._owed.append(owed)
                raise
