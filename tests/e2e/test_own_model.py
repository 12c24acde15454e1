"""Other models in the same two apps: nothing but the artifact's directory changes."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.local import ROOT, services
from tests.e2e.client import post
from tests.e2e.command import call

PAGE = ROOT / "docs/own-model.md"
EXAMPLES = ROOT / "training/examples"
PLENTY = {"SCORER_IDLE_SECONDS": "0.3", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Case:
    """A model file, and records for it: the first is scored, the last has a fault."""

    file: Path
    records: list[dict[str, object]]
    fault: str


def the_file_of_the_page(folder: Path) -> Path:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (folder / "skid.py").write_text(code)
    chance = random.Random(0)
    with (folder / "skids.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["speed", "wet", "skid"])
        for _ in range(400):
            speed, wet = chance.uniform(20, 180), chance.choice(["0", "1", ""])
            skid = speed + (40 if wet == "1" else 0) + chance.gauss(0, 40) > 140
            lines.writerow([speed, wet, int(skid)])
    return folder / "skid.py"


def breast_record() -> dict[str, object]:
    from training.examples.breast_cancer import BUNCH, NAMES

    return dict(zip(NAMES, map(float, BUNCH.data[0]), strict=True))


HEART = {"age": 63, "sex": "male", "cp": "asymptomatic", "trestbps": 145, "chol": 233}


@pytest.fixture(params=["page", "heart_boosting", "breast_cancer", "heart_histogram"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "page":
        drives: list[dict[str, object]] = [
            {"speed": 140, "wet": "yes"},
            {"speed": 60},
            {"speed": 400},
        ]
        return Case(the_file_of_the_page(tmp_path), drives, "out_of_range: speed must be from 0")
    file = EXAMPLES / f"{request.param}.py"
    if request.param == "breast_cancer":
        record = breast_record()
        bad = record | {"mean_radius": -1}
        return Case(file, [record, bad], "out_of_range: mean_radius must be from 0")
    return Case(file, [HEART, {"age": 50, "sex": 0}, HEART | {"chol": 5}], "out_of_range: chol")


@pytest.mark.slow
def test_a_model_of_another_file_is_trained_served_and_verified(
    case: Case, connection_string: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    trained = call(None, "train", "--model", str(case.file), "--output", str(model))
    assert trained.returncode == 0, trained.stderr
    table, output = tmp_path / "records.csv", tmp_path / "scores.csv"
    with table.open("w", newline="") as file:
        lines = csv.DictWriter(file, case.records[0])
        lines.writeheader()
        lines.writerows(case.records)
    env = {
        "SCORER_MODEL_DIR": str(model),
        "SCORER_QUEUE": f"own-{case.file.stem.replace('_', '-')}",
    }

    with services(connection_string, tmp_path / "logs", env=PLENTY | env) as running:
        status, answer = post(f"{running.api_url}/predict", case.records[0])
        words = ("submit", str(table), "--wait", "--json", "--output", str(output))
        sent = call(running, *words, **env)
    batch_id = json.loads(sent.stdout)["batch_id"]
    verified = call(connection_string, "verify", batch_id, **env)
    checked = call(None, "check", str(table), **env)

    name = json.loads((model / "manifest.json").read_text())["name"]
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert status == 200
    assert name.replace("-", "_") in case.file.stem or name == "skid"
    assert 0 < answer["probability"] < 1
    assert float(rows[0]["probability"]) == answer["probability"]
    assert [bool(row["error"]) for row in rows] == [False] * (len(rows) - 1) + [True]
    assert case.fault in rows[-1]["error"]
    assert (verified.returncode, checked.returncode) == (0, 3)
    assert f"{len(rows)} rows, 0 differ" in verified.stdout
