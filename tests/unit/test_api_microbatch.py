"""Records that arrive together share one run of the model, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from api.microbatch import MicroBatcher
from shared.records.artifact import Artifact
from shared.records.kinds import Outputs, Probability
from shared.records.schema import Record
from shared.records.scoring import Matrix, ModelFault, Score, Scorer
from tests.api_client import an_async_client
from tests.builders import a_patient
from tests.fakes_model import FailingModel, FakeModel
from training.heart.fields import TABLE

AGES = range(30, 80)
RECORDS = [TABLE.read(a_patient(age=age)) for age in AGES]


class CountingModel(FakeModel):
    """Notes how many rows it was given at once."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def outputs(self, rows: Matrix) -> Outputs:
        self.runs.append(len(rows))
        return super().outputs(rows)


async def scored(batcher: MicroBatcher, records: Sequence[Record]) -> list[Any]:
    return await asyncio.gather(*map(batcher.score, records), return_exceptions=True)


async def test_records_that_arrive_together_are_scored_in_one_run_as_if_alone() -> None:
    model = CountingModel()
    batcher = MicroBatcher(Scorer(model, TABLE, Probability(0.5)))
    alone = Scorer(FakeModel(), TABLE, Probability(0.5))

    found = await scored(batcher, RECORDS)

    assert model.runs == [len(RECORDS)]
    assert found == [alone.score(record) for record in RECORDS]
    assert await batcher.score(RECORDS[0]) == found[0]
    assert model.runs == [len(RECORDS), 1]


async def test_a_single_record_does_not_wait_for_others() -> None:
    model = CountingModel()
    batcher = MicroBatcher(Scorer(model, TABLE, Probability(0.5)))
    alone = asyncio.create_task(batcher.score(RECORDS[0]))
    await asyncio.sleep(0)  # asked for

    await asyncio.sleep(0)

    assert model.runs == [1]
    await alone


async def test_one_record_without_an_answer_takes_none_from_the_others() -> None:
    scorer = Scorer(FailingModel(66), TABLE, Probability(0.5))

    found = await scored(MicroBatcher(scorer), RECORDS)

    for age, record, score in zip(AGES, RECORDS, found, strict=True):
        if age == 66:
            assert isinstance(score, ModelFault)
        else:
            assert score == scorer.score(record)


async def test_a_request_that_is_given_up_takes_none_from_the_others() -> None:
    batcher = MicroBatcher(Scorer(FakeModel(), TABLE, Probability(0.5)))
    tasks = [asyncio.create_task(batcher.score(record)) for record in RECORDS]
    await asyncio.sleep(0)
    tasks[3].cancel()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(found[3], asyncio.CancelledError)
    assert sum(isinstance(score, Score) for score in found) == len(RECORDS) - 1


async def test_a_fault_of_ours_in_the_common_run_leaves_each_its_own() -> None:
    class Faulty(Scorer):
        def score_each(self, records: Sequence[Record]) -> list[Score | None]:
            raise KeyError("nobody foresaw this")

    scorer = Faulty(FailingModel(66), TABLE, Probability(0.5))

    found = await scored(MicroBatcher(scorer), RECORDS)

    assert sum(isinstance(score, Score) for score in found) == len(RECORDS) - 1


@pytest.mark.parametrize("at_once", [2, 40])
async def test_requests_at_once_get_each_their_own_answer(artifact: Artifact, at_once: int) -> None:
    bodies = [a_patient(patient_id=f"p{age}", age=age) for age in range(30, 30 + at_once)]
    bodies[1]["age"] = "old"

    async with an_async_client(artifact) as client:
        alone = [await client.post("/predict", json=body) for body in bodies]
        together = await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    assert [answer.status_code for answer in together] == [200, 422, *[200] * (at_once - 2)]
    for number in (0, *range(2, at_once)):
        assert together[number].json() == alone[number].json()
        assert together[number].json()["patient_id"] == bodies[number]["patient_id"]
