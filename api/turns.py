"""Runs the model once for all records that wait for it in one turn of the event loop.

A run costs much the same for one record as for some tens: an estimator of scikit-learn takes half
a millisecond (boosted trees) to ten (a forest), our graph under ONNX Runtime a tenth of one, since
between requests its code and data leave the core's cache. A record that came alone is scored at
once. Where several came together, more are on their way: they wait for one turn more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from shared.records.schema import Record
from shared.records.scoring import Score, Scorer


class TurnScorer:
    """Scores single records, by the same bits as alone."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._waiting: list[tuple[Record, asyncio.Future[Score]]] = []

    async def score(self, record: Record) -> Score:
        """Score one record. Raises `ModelFault`, for this record alone."""
        if not self._waiting:
            self._loop = asyncio.get_running_loop()
            # Behind all that is ready by now: the other requests of this turn.
            self._loop.call_soon(self._score_or_wait)
        score: asyncio.Future[Score] = self._loop.create_future()
        self._waiting.append((record, score))
        return await score

    def _score_or_wait(self) -> None:
        if len(self._waiting) > 1:
            self._loop.call_soon(self._score_all)
        else:
            self._score_all()

    def _score_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        found: list[Score | None] = [None] * len(waiting)
        if len(waiting) > 1:
            with suppress(Exception):  # alone, each meets its own error
                found = self._scorer.score_each([record for record, _ in waiting])
        for (record, future), score in zip(waiting, found, strict=True):
            if future.done():  # its request was given up
                continue
            try:
                future.set_result(score or self._scorer.score(record))
            except Exception as error:  # whatever it is, it is this request's
                future.set_exception(error)
