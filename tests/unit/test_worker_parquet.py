"""Parquet files and the worker's promise: resumed after any kill, read from ranges of a blob."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.batches.message import Envelope, EnvelopeInput, EnvelopeOptions
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.testing import run_virtually
from tests.faulty import Moment
from tests.world import World

ROWS = 9_000
LIMITS = Limits(rows=1_000)


@cache
def patients(rows: int = ROWS) -> bytes:
    """A file that is large enough to be read by ranges, with a few rows that are rejected."""
    rng = np.random.default_rng(7)
    columns = {
        "patient_id": [f"patient {number:07d} {rng.bytes(8).hex()}" for number in range(rows)],
        "age": rng.integers(29, 130, rows),
        "sex": rng.choice(["male", "female"], rows),
        "chol": rng.uniform(100, 690, rows),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=2_500)
    return file.getvalue()


async def send(world: World, content: bytes, output: Any = None) -> None:
    etag = world.blobs.put("uploads", "p.parquet", content)
    source = EnvelopeInput(container="uploads", blob="p.parquet", etag=etag)
    options = EnvelopeOptions(output=output)
    await world.queue.send(Envelope(batch_id="p", input=source, options=options).text())


def scores(artifact: Artifact, content: bytes, output: str, hook: Any = None) -> bytes:
    async def scene() -> bytes:
        world = World(artifact)
        await send(world, content, output)
        await world.emptied(world.worker(**({"hook": hook} if hook else {}), limits=LIMITS))
        assert world.summary("p")["status"] == "succeeded"
        return world.blobs.content("scores", f"p/scores.{output}")

    return run_virtually(scene())


def failing_at(number: int) -> Callable[[Moment], Any]:
    """A hook that ends the delivery before its stage of this number, once."""
    seen = 0

    async def hook(moment: Moment) -> None:
        nonlocal seen
        if (moment.when, moment.call) == ("after", "stage"):
            seen += 1
            if seen == number:
                raise RuntimeError("the delivery breaks here")

    return hook


@pytest.mark.parametrize(("output", "number"), [("parquet", 1), ("parquet", 12), ("csv", 4)])
def test_a_resumed_batch_has_the_same_bytes(artifact: Artifact, output: str, number: int) -> None:
    content = patients()
    assert len(content) > 64 << 10

    undisturbed = scores(artifact, content, output)

    assert scores(artifact, content, output, failing_at(number)) == undisturbed


def test_the_result_has_a_row_for_each_row(artifact: Artifact) -> None:
    result = pq.read_table(io.BytesIO(scores(artifact, patients(), "parquet")))

    assert result["row"].to_pylist() == list(range(1, ROWS + 1))
    assert result["patient_id"].equals(pq.read_table(io.BytesIO(patients()))["patient_id"])
    assert result["probability"].null_count == result["prediction"].null_count
    assert 0 < result["probability"].null_count < ROWS


def test_a_file_that_was_cut_off_fails_with_the_reason(artifact: Artifact) -> None:
    async def scene() -> dict[str, Any]:
        world = World(artifact)
        await send(world, patients()[:-100])
        await world.emptied(world.worker())
        return world.summary("p")

    summary = run_virtually(scene())

    assert summary["status"] == "failed"
    assert "not Parquet, or is damaged" in summary["reason"]


def test_a_file_that_is_replaced_while_it_is_read_is_not_called_damaged(
    artifact: Artifact,
) -> None:
    async def scene() -> dict[str, Any]:
        world = World(artifact)
        downloads = 0

        async def hook(moment: Moment) -> None:
            nonlocal downloads
            if (moment.when, moment.call) == ("before", "chunks"):
                downloads += 1
                if downloads == 3:
                    world.blobs.put("uploads", "p.parquet", b"PAR1 another")

        await send(world, patients())
        await world.emptied(world.worker(hook))
        return world.summary("p")

    assert "replaced while it was read" in run_virtually(scene())["reason"]
