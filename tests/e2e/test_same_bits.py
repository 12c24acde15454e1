"""The same record gives the same bits from the API and the worker."""

from __future__ import annotations

import csv
import io
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from cli.local import ROOT, Running
from shared.records.artifact import read_estimator, read_manifest
from shared.storage.azure import Storage
from tests.e2e.client import outcome, post, scores, send_file
from training.heart.fields import TABLE

FIELDS = [field.name for field in TABLE.fields]


@pytest.fixture(scope="module")
def patients() -> list[dict[str, float | None]]:
    """All 303 patients of the training data, as JSON records."""
    with (ROOT / "training/heart/data/heart_cleveland.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(row[name]) if row[name] else None for name in FIELDS} for row in rows]


@pytest.mark.slow
async def test_every_patient_scores_alike_through_all_doors(
    running: Running,
    storage: Storage,
    artifact_dir: Path,
    patients: list[dict[str, float | None]],
) -> None:
    run = uuid.uuid4().hex[:12]
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS)
    writer.writeheader()
    writer.writerows(patients)
    parts = {f"inline-{run}-{start}": patients[start : start + 101] for start in (0, 101, 202)}

    await send_file(storage, f"csv-{run}", ".csv", table.getvalue().encode())
    await send_file(storage, f"json-{run}", ".json", json.dumps(patients).encode())
    for batch_id, records in parts.items():
        body = {"schema": "heart-scorer/1", "batch_id": batch_id, "records": records}
        await storage.queue("patient-batches").send(json.dumps(body))
    by_http = [answer_of(running, patient) for patient in patients]
    by_csv = [
        float(row["probability"])
        for row in csv.DictReader(
            io.StringIO((await scores(storage, await outcome(storage, f"csv-{run}"))).decode())
        )
    ]
    by_json = await json_scores(storage, f"json-{run}")
    inline = [score for batch_id in parts for score in await json_scores(storage, batch_id)]

    assert len(by_http) == 303
    assert by_http == by_csv == by_json == inline
    used = [[patient[name] for name in TABLE.used_names] for patient in patients]
    manifest, _ = read_manifest(artifact_dir)
    estimator = read_estimator(artifact_dir, manifest, allow_pickle=False)
    expected = estimator.outputs(np.array(used, float))
    assert np.abs(np.array(by_http) - expected).max() < 1e-6


def answer_of(running: Running, patient: dict[str, float | None]) -> float:
    status, answer = post(f"{running.api_url}/predict", patient)
    assert status == 200
    probability = answer["probability"]
    assert isinstance(probability, float)
    return probability


async def json_scores(storage: Storage, batch_id: str) -> list[float]:
    content = await scores(storage, await outcome(storage, batch_id))
    return [json.loads(line)["probability"] for line in content.splitlines()]
