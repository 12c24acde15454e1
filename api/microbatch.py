"""Scores records that arrive together in one run of the model.

A run costs much the same for one record as for some tens. Requests that reach the model in the same
turn of the event loop share one run; a record that came alone is scored at once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from shared.records.schema import Record
from shared.records.scoring import Score, Scorer


class MicroBatcher:
    """Scores single records with the same bits as alone."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._waiting: list[tuple[Record, asyncio.Future[Score]]] = []

    async def score(self, record: Record) -> Score:
        """Score one record. Raises `ModelFault`, for this record alone."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._score_all)
        score: asyncio.Future[Score] = loop.create_future()
        self._waiting.append((record, score))
        return await score

    def _score_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        scores: list[Score | None] = [None] * len(waiting)
        if len(waiting) > 1:
            with suppress(Exception):  # scored alone below, each record meets its own error
                scores = self._scorer.score_each([record for record, _ in waiting])
        for (record, future), score in zip(waiting, scores, strict=True):
            if future.done():  # its request was cancelled
                continue
            try:
                future.set_result(score or self._scorer.score(record))
            except Exception as error:  # this request's failure, not that of the others
                future.set_exception(error)
