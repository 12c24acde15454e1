"""A model of something else: nothing that a user sees speaks of hearts or patients."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from typer.main import get_command
from typer.testing import CliRunner

from api.app import create_app
from api.html import STATIC
from cli.__main__ import app
from cli.home import MODEL_DIR
from shared.records.artifact import Artifact, Manifest, load_artifact
from shared.records.schema import FieldTable
from shared.settings import ApiSettings
from shared.testing import run_virtually
from tests.world import World
from training.examples import wine
from training.train import train

OWN_NAMES = re.compile("heart[-_ ]?scorer|patient-batches", re.IGNORECASE)
"""The product and the default names of its resources."""
FOREIGN = re.compile(".{0,40}(?:heart|patient).{0,40}", re.IGNORECASE)


def foreign_words(text: str) -> list[str]:
    return FOREIGN.findall(OWN_NAMES.sub("", text))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wine") / "model"
    train(wine.MODEL, folder, progress=lambda _: None)
    return folder


@pytest.fixture(scope="module")
def artifact(directory: Path) -> Artifact:
    return load_artifact(directory)


@pytest.fixture(scope="module")
def client(artifact: Artifact, directory: Path) -> TestClient:
    settings = ApiSettings(api_keys=SecretStr("none"), model_dir=directory)
    return TestClient(create_app(artifact, settings))


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/docs", "/problems", "/openapi.json", "/model", "/model-card", "/template.csv"),
        *("/livez", "/readyz", "/v2", "/v2/models/wine", "/v2/models/wine/config", "/nothing"),
        *(f"/static/{file.name}" for file in sorted(STATIC.glob("*.*"))),
    ],
)
def test_no_page_speaks_of_another_model(path: str, client: TestClient) -> None:
    answer = client.get(path, headers={"Accept": "text/html, application/json, */*"})

    assert answer.text
    assert foreign_words(answer.text) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {}),
        ("/predict", {"alcohol": 12}),
        ("/predict", {"alcohl": 12, "id": "x" * 200}),
        ("/predict?explain=true", None),
        ("/predict/many", [{"alcohol": -1, "id": "A-7"}]),
        ("/predict/many", {"alcohol": 1}),
        ("/v2/models/wine/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64"}]}),
        ("/v2/models/other/infer", {}),
    ],
)
def test_no_answer_speaks_of_another_model(
    path: str, body: Any, client: TestClient, artifact: Artifact
) -> None:
    answer = client.post(path, json=artifact.manifest.golden[0].record if body is None else body)

    assert foreign_words(answer.text) == []


def test_a_record_has_the_id_that_the_model_names(client: TestClient, artifact: Artifact) -> None:
    record = {**artifact.manifest.golden[0].record, "id": "A-7"}

    one = client.post("/predict", json=record).json()
    many = client.post("/predict/many", json=[record]).json()["results"]

    assert (one["id"], many[0]["id"]) == ("A-7", "A-7")
    assert client.get("/template.csv").text.splitlines()[1].startswith("id,alcohol,")
    assert client.get("/model").json()["record_id"] == "id"
    document = client.get("/openapi.json").json()
    assert document["paths"]["/predict"]["post"]["summary"] == "Score one wine"


def test_a_batch_and_what_the_worker_logs_speak_of_no_other_model(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    record = artifact.manifest.golden[0].record
    header = ",".join(["id", *record]).encode()
    row = ",".join(map(str, record.values())).encode()

    async def scene() -> None:
        world = World(artifact)
        await world.submit("cellar", header + b"\nA-7," + row + b"\nA-8," + b"-1" + row + b"\n")
        await world.submit("empty", b"")
        await world.emptied()

        scores = await world.blobs.read("scores", "cellar/scores.csv")
        assert scores.startswith(b"row,id,prediction,probability_first,")
        assert world.summary("cellar")["rows"]["rejected"] == 1
        for blob in ("cellar/scores.csv", "cellar/summary.json", "empty/summary.json"):
            assert foreign_words((await world.blobs.read("scores", blob)).decode()) == []

    run_virtually(scene())
    assert caplog.records
    facts = [{**vars(one), "pathname": "", "exc_info": ""} for one in caplog.records]
    assert foreign_words(json.dumps(facts, default=str)) == []


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, inner in getattr(command, "commands", {}).items():
        found += commands(inner, (*path, name))
    return found


@pytest.mark.parametrize("words", commands(get_command(app)), ids=" ".join)
def test_no_help_text_speaks_of_another_model(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(
        app, [*words, "--help"], catch_exceptions=False, terminal_width=10_000
    )

    assert done.exit_code == 0
    # The folder of the checkout may have any name.
    assert foreign_words(done.stdout.replace(str(MODEL_DIR), "")) == []


def test_old_manifests_keep_the_id_that_they_were_made_with(artifact_dir: Path) -> None:
    content = json.loads((artifact_dir / "manifest.json").read_text())
    for name in ("kind", "classes", "unit", "reference"):
        content.pop(name, None)
    content["fields"].pop("record_id", None)
    for golden in content["golden"]:
        if "output" in golden:
            [golden["probability"]] = golden.pop("output")

    manifest = Manifest.model_validate(content)

    assert (manifest.kind, manifest.fields.record_id) == ("probability", "patient_id")
    assert manifest.golden[0].output == (0.2740838,)
    assert FieldTable(fields=()).record_id == "id"
