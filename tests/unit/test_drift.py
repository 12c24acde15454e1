"""Profiles of many batches with a known answer: as in training, shifted since, of two models."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.drift import as_text, facts_of
from shared.batches.drift import Drift, read_drift
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.testing import run_virtually
from tests.builders import a_csv, a_patient
from tests.unit.test_profile import Row, resampled
from tests.unit.test_profile import trained as trained
from tests.world import World

WEEK = timedelta(days=7)


def older(rows: list[Row], years: int = 9) -> list[Row]:
    return [row | {"age": float(str(row["age"])) + years} for row in rows]


async def score(
    world: World, batches: dict[str, list[Row]], *, days_ago: float, artifact: Artifact
) -> None:
    """Let a worker score batches, each with a profile, so many days ago."""
    for batch_id, rows in batches.items():
        await world.submit(batch_id, a_csv(*rows), profile=True)
    await world.emptied(world.worker(artifact=artifact, limits=Limits(rows=300)))
    for batch_id in batches:
        world.blobs.age("scores", f"{batch_id}/summary.json", timedelta(days=days_ago))


def drift_of(
    artifact: Artifact, *weeks: tuple[float, dict[str, list[Row]]], last: Artifact | None = None
) -> Drift:
    """The drift of the last seven days. Each week: how many days ago, and its batches."""

    async def scene() -> Drift:
        world = World(artifact)
        for days_ago, batches in weeks:
            await score(world, batches, days_ago=days_ago, artifact=artifact)
        if last is not None:
            await score(world, {"last": resampled(200)}, days_ago=0, artifact=last)
        now = datetime.now(UTC)
        return await read_drift(world.blobs, now - WEEK, now)

    return run_virtually(scene())


def facts(drift: Drift) -> dict[str, Any]:
    return facts_of(drift, "7 days")


def test_batches_like_training_show_no_drift(trained: Artifact) -> None:
    found = facts(
        drift_of(
            trained,
            (9, {"a": resampled(400, 1), "b": resampled(300, 2)}),
            (1, {"c": resampled(500, 3), "d": resampled(200, 4)}),
        )
    )

    assert (found["batches"], found["rows"]["scored"]) == (2, 700)
    assert (found["before"]["batches"], found["before"]["rows"]["scored"]) == (2, 700)
    for part in [*found["fields"].values(), found["scores"]]:
        assert part["training"]["reading"] == "like training"
        assert part["before"]["reading"] == "like before"
        assert part["training"]["psi"] < 0.1
    assert found["differences"] == {"training": [], "before": []}


def test_a_shift_since_last_week_is_found_and_named(trained: Artifact) -> None:
    found = facts(
        drift_of(
            trained,
            (8, {"a": resampled(800, 1)}),
            (2, {"b": older(resampled(400, 2)), "c": older(resampled(400, 3))}),
        )
    )

    age = found["fields"]["age"]
    assert age["training"]["reading"] == "far from training"
    assert age["before"]["reading"] == "far from before"
    assert found["fields"]["chol"]["training"]["reading"] == "like training"
    assert (
        "Patients are 9 years older: `age` is on average 63" in found["differences"]["training"][0]
    )
    assert "in the 7 days before 54" in "\n".join(found["differences"]["before"])
    assert "9 years older: age is on average 63" in as_text(found)


def test_a_shift_that_was_there_before_differs_from_training_alone(trained: Artifact) -> None:
    found = facts(
        drift_of(
            trained, (8, {"a": older(resampled(800, 1))}), (2, {"b": older(resampled(800, 2))})
        )
    )

    assert found["fields"]["age"]["training"]["reading"] == "far from training"
    assert found["fields"]["age"]["before"]["reading"] == "like before"
    assert found["differences"]["before"] == []


def test_the_sum_of_profiles_is_the_profile_of_all_rows(trained: Artifact) -> None:
    rows = [row | ({"chol": ""} if i % 3 else {}) for i, row in enumerate(resampled(3000))]
    random.Random(5).shuffle(rows)

    apart = drift_of(trained, (1, {"a": rows[:1000], "b": rows[1000:1800], "c": rows[1800:]}))
    whole = drift_of(trained, (1, {"a": rows}))

    assert apart.now is not None
    assert whole.now is not None
    for one, other in zip(
        apart.now.profile()["fields"], whole.now.profile()["fields"], strict=True
    ):
        # Cells of fewer than five rows are withheld, so the sums are approximate.
        assert one["counts"] == pytest.approx(other["counts"], abs=15)
        assert one["missing"] == pytest.approx(other["missing"], abs=15)
        if one["used"]:
            assert one["psi"] == pytest.approx(other["psi"], abs=0.01)
        if one["kind"] == "number" and one["used"]:
            assert one["mean"] == pytest.approx(other["mean"], rel=1e-3)


def test_only_batches_of_the_newest_model_are_added(trained: Artifact) -> None:
    another = Artifact(trained.manifest, "0" * 64, trained.model)

    found = facts(drift_of(trained, (2, {"a": resampled(300)}), last=another))

    assert found["model"]["sha256"] == "0" * 64
    assert (found["batches"], found["rows"]["scored"]) == (1, 200)
    assert found["batches_of_other_models"] == 1
    assert found["before"] is None
    assert found["fields"]["age"]["before"] is None
    assert "1 batch of other models" in as_text(found)


def test_profiles_of_few_rows_reveal_nothing_about_a_row(trained: Artifact) -> None:
    rows = {f"b{n}": [a_patient(age=77)] for n in range(60)}

    found = facts(drift_of(trained, (1, rows)))

    assert found["rows"]["scored"] == 60
    assert found["fields"]["age"]["training"]["psi"] < 0.1
    assert "Patients are" not in json.dumps(found)


def test_a_model_without_a_reference_is_compared_with_the_week_before(artifact: Artifact) -> None:
    manifest = artifact.manifest.model_copy(update={"reference": None})
    old = Artifact(manifest, artifact.sha256, artifact.model)

    found = facts(
        drift_of(
            old,
            (8, {"a": resampled(500)}),
            (1, {"b": [row | {"cp": 3} for row in resampled(500, 2)]}),
        )
    )

    cp = found["fields"]["cp"]
    assert cp["training"]["reading"] == "no reference"
    assert cp["before"]["reading"] == "far from before"
    assert "`cp` is 3 (asymptomatic) in 100 %" in "\n".join(found["differences"]["before"])


def test_batches_without_a_profile_and_other_weeks_are_left_out(trained: Artifact) -> None:
    async def scene() -> Drift:
        world = World(trained)
        await score(world, {"old": resampled(100)}, days_ago=20, artifact=trained)
        await world.submit("small", a_csv(a_patient()))
        await world.submit("bad", b"")
        await world.emptied()
        now = datetime.now(UTC)
        return await read_drift(world.blobs, now - WEEK, now)

    found = run_virtually(scene())

    assert (found.now, found.before, found.without_profile) == (None, None, 1)
