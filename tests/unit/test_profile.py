"""Profiles of batches with a known answer: resampled, shifted, recoded, empty, rejected."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from shared import metrics
from shared.batches.profile import filled, make_profile, reading_of, withhold
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.counts import Counts
from shared.records.scoring import Scorer
from shared.records.tally import Tallier
from shared.testing import run_virtually
from tests.builders import NAMES, a_csv, a_patient
from tests.world import World
from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.reference import reference_of

Row = dict[str, object]


@cache
def training_rows() -> list[Row]:
    """The training data as records, without the outcome."""
    names = TABLE.used_names
    return [
        {
            name: f"{value:g}" if value == value else ""
            for name, value in zip(names, row, strict=True)
        }
        for row in read_heart().rows.tolist()
    ]


def resampled(count: int, seed: int = 1) -> list[Row]:
    rng = random.Random(seed)
    return [dict(rng.choice(training_rows())) for _ in range(count)]


@pytest.fixture(scope="module")
def trained(artifact: Artifact) -> Artifact:
    """The model with its reference, whenever it was trained."""
    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    reference = reference_of(scorer, read_heart().rows)
    manifest = manifest.model_copy(update={"reference": reference})
    return Artifact(manifest, artifact.sha256, artifact.model)


def profile_of(artifact: Artifact, records: Iterable[Row] | bytes) -> dict[str, Any]:
    """The profile that a worker writes for these records."""
    content = records if isinstance(records, bytes) else a_csv(*records)

    async def scene() -> bytes:
        world = World(artifact)
        await world.submit("b", content, profile=True)
        await world.emptied(world.worker(limits=Limits(rows=300)))
        summary = world.summary("b")
        assert summary["status"] == "succeeded", summary
        found = world.blobs.content("scores", "b/profile.json")
        assert summary["profile"]["bytes"] == len(found)
        return found

    profile: dict[str, Any] = json.loads(run_virtually(scene()))
    return profile


def field(profile: dict[str, Any], name: str) -> dict[str, Any]:
    return next(field for field in profile["fields"] if field["name"] == name)


def readings(profile: dict[str, Any]) -> dict[str, str]:
    used = {f["name"]: f["reading"] for f in profile["fields"] if f["used"]}
    return used | {"scores": profile["scores"]["reading"]}


def test_a_resampled_training_set_is_like_training(trained: Artifact) -> None:
    profile = profile_of(trained, resampled(1000))

    assert set(readings(profile).values()) == {"like training"}
    assert all(f["psi"] < 0.1 for f in profile["fields"] if f["used"])
    assert profile["rows"] == {"total": 1000, "scored": 1000, "rejected": 0, "with_warnings": 0}
    assert profile["rejections"] == []
    assert profile["warnings"] == {}


@pytest.mark.parametrize("count", [50, 100, 300])
def test_small_honest_batches_are_not_called_shifted(trained: Artifact, count: int) -> None:
    wrong = [
        name
        for seed in range(10)
        for name, reading in readings(profile_of(trained, resampled(count, seed))).items()
        if reading != "like training"
    ]

    assert len(wrong) <= 1  # of 120


def test_an_older_population_is_noticed(trained: Artifact) -> None:
    older = [row | {"age": float(str(row["age"])) + 9} for row in resampled(1000)]

    profile = profile_of(trained, older)

    age = field(profile, "age")
    assert age["reading"] == "far from training"
    assert age["mean"] - age["training"]["mean"] == pytest.approx(9, abs=1)
    assert readings(profile)["chol"] == "like training"
    assert age["above"] == profile["warnings"]["age"] > 0


def test_recoded_values_are_noticed(trained: Artifact) -> None:
    recoded = [row | {"cp": (int(str(row["cp"])) + 1) % 4} for row in resampled(1000)]

    profile = profile_of(trained, recoded)

    assert field(profile, "cp")["reading"] == "far from training"
    assert readings(profile)["age"] == "like training"


def test_a_field_that_is_always_missing_is_noticed(trained: Artifact) -> None:
    profile = profile_of(trained, [row | {"chol": ""} for row in resampled(500)])

    chol = field(profile, "chol")
    assert (chol["missing"], chol["count"], chol["mean"]) == (500, 0, None)
    assert set(chol["counts"]) == {0}
    assert chol["reading"] == "far from training"


def test_a_profile_of_one_row_reveals_nothing_about_its_patient(trained: Artifact) -> None:
    profile = profile_of(trained, [a_patient(patient_id="Erika", chol=555)])

    for one in profile["fields"]:
        cells = [one["count"], one["missing"], one["below"], one["above"], *one["counts"]]
        assert set(cells) == {None}
        assert one["psi"] is None
        assert one.get("mean") is None
    scores = profile["scores"]
    assert set(scores["counts"]) == {None}
    assert (scores["mean"], scores["psi"], scores["thresholds"][0]["rows"]) == (None, None, None)
    assert "Erika" not in json.dumps(profile)
    assert profile["rows"]["scored"] == 1


def test_a_batch_of_rejected_rows_says_which_and_why(trained: Artifact) -> None:
    rows = [a_patient(age="old" if n % 2 else 300) for n in range(40)]

    profile = profile_of(trained, rows)

    assert profile["rows"] == {"total": 40, "scored": 0, "rejected": 40, "with_warnings": 0}
    assert profile["rejections"] == [
        {"code": "not_a_number", "field": "age", "rows": 20, "first_rows": [2, 4, 6, 8, 10]},
        {"code": "out_of_range", "field": "age", "rows": 20, "first_rows": [1, 3, 5, 7, 9]},
    ]
    assert profile["scores"]["mean"] is None
    assert set(readings(profile).values()) == {"too few rows"}


def test_values_of_another_coding_are_named(trained: Artifact) -> None:
    rows = [*resampled(300), a_patient(thal=7), a_patient(cp=4)]

    profile = profile_of(trained, rows)

    other = profile["other_coding"]
    assert other["rows"] == 2
    assert {sign["field"] for sign in other["signs"]} == {"thal", "cp"}


def test_a_model_without_a_reference_gets_a_profile_without_a_comparison(
    artifact: Artifact,
) -> None:
    manifest = artifact.manifest.model_copy(update={"reference": None})
    old = Artifact(manifest, artifact.sha256, artifact.model)

    profile = profile_of(old, resampled(200))

    assert set(readings(profile).values()) == {"no reference"}
    assert field(profile, "age")["counts"] == [200]
    assert profile["training_rows"] is None


def test_the_worker_exports_the_index_of_each_field_of_its_last_large_batch(
    trained: Artifact,
) -> None:
    metrics.FIELD_PSI.clear()

    profile = profile_of(trained, [row | {"cp": 3} for row in resampled(500)])
    profile_of(trained, resampled(100))

    [family] = metrics.FIELD_PSI.collect()
    exported = {sample.labels["field"]: sample.value for sample in family.samples}
    assert exported == {f["name"]: f["psi"] for f in profile["fields"] if f["used"]}
    assert exported["cp"] > 0.25


def test_only_a_large_batch_gets_a_profile_unless_one_is_requested(trained: Artifact) -> None:
    async def scene() -> None:
        world = World(trained)
        await world.submit("small", a_csv(a_patient()))
        await world.submit("large", a_csv(*resampled(3000)))
        await world.emptied()
        names = world.blobs.names("scores")
        assert "small/profile.json" not in names
        assert world.summary("small")["profile"] is None
        assert "large/profile.json" in names

    run_virtually(scene())


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([10, 20, 30], [10, 20, 30]),
        ([10, 0, 30], [10, 0, 30]),
        ([10, 3, 30], [None, None, 30]),
        ([10, 3, 2, 30], [10, None, None, 30]),
        ([1, 1, 7, 30], [None, None, None, 30]),
        ([0, 0, 4], [None, None, None]),
        ([0, 0], [0, 0]),
    ],
)
def test_small_cells_are_withheld_so_that_no_sum_gives_them_away(
    cells: list[int], shown: list[int | None]
) -> None:
    assert withhold(cells) == shown


def test_no_cell_of_one_to_four_rows_can_be_computed_from_a_profile(trained: Artifact) -> None:
    for seed in range(5):
        profile = profile_of(trained, resampled(60, seed))
        for one in profile["fields"]:
            for cells in ([one["missing"], *one["counts"]], profile["scores"]["counts"]):
                known = [cell for cell in cells if cell is not None]
                hidden = 60 - sum(known)
                assert not set(known) & {1, 2, 3, 4}
                assert hidden == 0 or hidden >= 5


def test_withheld_rows_are_shared_out_as_in_training_among_the_cells_that_hide_them() -> None:
    assert filled([None, 10, None], 16, [0.1, 0.7, 0.2]) == pytest.approx([2, 10, 4])


def test_few_rows_need_a_larger_index() -> None:
    assert reading_of(0.2, 11, 60, 300) == "like training"
    assert reading_of(0.2, 11, 10_000, 300) == "shifted"
    assert reading_of(0.3, 11, 10_000, 300) == "far from training"


def test_a_profile_depends_on_counts_alone(trained: Artifact) -> None:
    """No time, no message, no order of blocks: a later delivery makes the same bytes."""
    manifest = trained.manifest
    tally = Tallier(TABLE, manifest.answer_kind, manifest.reference).empty()

    found = {make_profile(tally, Counts(), manifest, {"a": 1}) for _ in range(2)}

    assert len(found) == 1


def test_the_columns_of_the_training_data_are_those_of_a_file() -> None:
    """Guards the tests above: a row that lost a field would be called shifted."""
    text = a_csv(*resampled(1)).decode()

    [row] = csv.DictReader(io.StringIO(text))
    assert set(row) == set(NAMES)
    assert all(row[name] for name in ("age", "sex", "cp"))
