"""The API, run by the product's own environment, and scores to compare with."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.api_process import ROOT, RunningApi, running_api

PRODUCT = ROOT / ".venv/bin/python"
TRAIN = "from cli.local import artifact; print(artifact())"

Score = Callable[..., float]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    trained = subprocess.run(
        [PRODUCT, "-c", TRAIN], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    log = tmp_path_factory.mktemp("api") / "log"
    with running_api(ROOT / trained.stdout.strip(), log, python=PRODUCT) as running:
        yield running


@pytest.fixture
def score(api: RunningApi) -> Score:
    """The probability of one record by POST /predict."""

    def ask(**record: object) -> float:
        request = urllib.request.Request(
            f"{api.url}/predict",
            json.dumps(record).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return float(json.load(answer)["probability"])

    return ask
