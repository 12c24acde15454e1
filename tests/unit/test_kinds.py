"""Models of several classes and of values: trained, converted, served, written, verified."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, PoissonRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from typer.testing import CliRunner

from api.app import create_app
from cli.__main__ import app
from shared.batches.differences import differences
from shared.batches.drift import ProfileSum, compared_with
from shared.batches.report import report_page
from shared.records.artifact import Artifact, Golden, Manifest, OnnxModel, load_artifact
from shared.records.errors import StartupError
from shared.records.kinds import Classes, Kind, Value, difference, kind_of
from shared.records.scoring import ModelFault, Scorer
from shared.settings import ApiSettings
from tests.builders import score_file
from tests.unit.test_profile import profile_of
from tests.unit.test_report import Page, summary_of
from training.checks import check_data
from training.errors import TrainingError
from training.examples import diabetes, wine
from training.graph import stock_graph
from training.parity import check_parity, parity_rows
from training.recipe import Dataset, Recipe
from training.train import as_served, train

RECIPES = {"classes": wine.MODEL, "value": diabetes.MODEL}


class Model(NamedTuple):
    """An example, trained."""

    directory: Path
    artifact: Artifact
    recipe: Recipe
    data: Dataset

    @property
    def scorer(self) -> Scorer:
        manifest = self.artifact.manifest
        return Scorer(self.artifact.model, manifest.fields, manifest.answer_kind)

    @property
    def client(self) -> TestClient:
        settings = ApiSettings(api_keys=SecretStr("none"), model_dir=self.directory)
        return TestClient(create_app(self.artifact, settings))

    def records(self, count: int) -> list[dict[str, float]]:
        names = self.recipe.table.used_names
        return [dict(zip(names, row.tolist(), strict=True)) for row in self.data.rows[:count]]

    def csv(self, count: int) -> bytes:
        return self.as_csv(self.records(count))

    def as_csv(self, records: Iterable[dict[str, float]]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.recipe.table.used_names)
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue().encode()

    def resampled(self, count: int) -> list[dict[str, float]]:
        """Rows of the training data, drawn at random."""
        return random.Random(1).choices(self.records(len(self.data.rows)), k=count)

    def profile(self, records: Iterable[dict[str, float]], **changes: object) -> dict[str, Any]:
        """The profile of a batch, after changes of the manifest."""
        manifest = self.artifact.manifest.model_copy(update=changes)
        artifact = Artifact(manifest, self.artifact.sha256, self.artifact.model)
        return profile_of(artifact, self.as_csv(records))

    def predictions(self, records: list[dict[str, float]]) -> list[Any]:
        table, scorer = self.recipe.table, self.scorer
        return [scorer.score(table.read(record)).members["prediction"] for record in records]


@pytest.fixture(scope="module", params=list(RECIPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained(request.param, tmp_path_factory.mktemp(request.param))


def trained(kind: str, folder: Path, **changes: Any) -> Model:
    recipe = replace(RECIPES[kind], **changes)
    train(recipe, folder / "model", progress=lambda _: None)
    return Model(folder / "model", load_artifact(folder / "model"), recipe, recipe.load(None))


def test_the_same_record_has_the_same_score_from_api_file_and_protocol(model: Model) -> None:
    records, client = model.records(40), model.client
    names = [column.name for column in model.scorer.kind.columns]
    rows = [list(record.values()) for record in records]
    tensor = {"name": "fields", "datatype": "FP64", "shape": [len(rows), len(rows[0])]}

    one = [client.post("/predict", json=record).json() for record in records]
    many = client.post("/predict/many", json=records).json()["results"]
    lines = score_file(
        "jsonl", "\n".join(map(json.dumps, records)).encode(), scorer=model.scorer
    ).lines
    cells = score_file("csv", model.csv(40), scorer=model.scorer).rows
    path = f"/v2/models/{model.recipe.name}/infer"
    answer = client.post(path, json={"inputs": [tensor | {"data": rows}]}).json()
    tensors = {output["name"]: output["data"] for output in answer["outputs"]}

    scores = [[score[name] for name in names] for score in one]
    assert len({str(score) for score in scores}) > 20
    assert [[row[name] for name in names] for row in many] == scores
    assert [[row[name] for name in names] for row in lines] == scores
    assert [[row[name] for name in names] for row in cells] == [
        [str(member) for member in score] for score in scores
    ]
    assert [list(score) for score in zip(*(tensors[name] for name in names), strict=True)] == scores


def test_the_predicted_class_is_the_most_probable_one(tmp_path: Path) -> None:
    model = trained("classes", tmp_path)

    scores = [model.scorer.score(model.recipe.table.read(r)).members for r in model.records(178)]

    for score in scores:
        shares = {
            name: float(score[f"probability_{name}"]) for name in ("first", "second", "third")
        }
        assert score["prediction"] == max(shares, key=lambda name: shares[name])
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    right = [score["prediction"] for score in scores] == np.array(model.recipe.classes)[
        model.data.outcome
    ]
    assert right.mean() > 0.98


def test_a_rejected_row_has_empty_cells_and_says_why(model: Model) -> None:
    records: list[dict[str, Any]] = model.records(3)
    first = model.recipe.table.used_names[0]
    records[1][first] = -5
    names = [column.name for column in model.scorer.kind.columns]

    lines = score_file(
        "jsonl", "\n".join(map(json.dumps, records)).encode(), scorer=model.scorer
    ).lines
    cells = score_file(
        "csv", model.csv(1) + b"-5" + b",1" * (len(records[0]) - 1) + b"\n", scorer=model.scorer
    ).rows

    assert [lines[1][name] for name in names] == [None] * len(names)
    assert str(lines[1]["error"]).startswith("out_of_range: ")
    assert [cells[1][name] for name in names] == [""] * len(names)
    assert all(lines[0][name] is not None for name in names)


def test_verify_compare_and_check_take_a_file(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(model.csv(30))

    def call(*words: object) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    verified = call("verify", file, "--model-dir", model.directory)
    compared = call("compare", model.directory, model.directory, file)
    checked = call("check", file, "--model-dir", model.directory)

    assert (verified["rows"], verified["different"]) == (30, 0)
    assert (compared["rows"], compared["scored_by_both"], compared["moved"]) == (30, 30, 0)
    assert checked["rows"]["accepted"] == 30


def test_models_of_different_kinds_are_not_compared(
    artifact_dir: Path, tmp_path: Path, model: Model
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(model.csv(2))

    done = CliRunner().invoke(
        app, ["compare", str(artifact_dir), str(model.directory), str(file)], catch_exceptions=False
    )

    assert done.exit_code == 2
    assert "answers of different kinds" in done.stderr


def test_the_document_describes_each_member_of_a_score(model: Model) -> None:
    document = model.client.get("/openapi.json").json()

    members = document["components"]["schemas"]["ScoreBody"]["properties"]
    prediction = members["prediction"]
    if model.recipe.kind == "classes":
        assert prediction["enum"] == ["first", "second", "third"]
        assert members["probability_first"]["maximum"] == 1
    else:
        assert (prediction["type"], prediction["x-unit"]) == ("number", "points")
    about = model.client.get("/model").json()
    assert about["kind"] == model.recipe.kind
    assert about["threshold"] is None


def test_binary_tensors_carry_the_same_answers(model: Model) -> None:
    [record] = model.records(1)
    row = list(record.values())
    tensor = {"name": "fields", "datatype": "FP64", "shape": [1, len(row)], "data": row}
    wanted = {"name": "prediction", "parameters": {"binary_data": True}}
    path = f"/v2/models/{model.recipe.name}/infer"

    answer = model.client.post(path, json={"inputs": [tensor], "outputs": [wanted]})

    length = int(answer.headers["Inference-Header-Content-Length"])
    content = answer.content[length:]
    score = model.client.post("/predict", json=record).json()["prediction"]
    if model.recipe.kind == "classes":
        assert content == len(score).to_bytes(4, "little") + score.encode()
    else:
        assert float(str(np.frombuffer(content, "<f4")[0])) == score


def test_the_card_has_the_figures_of_the_kind(model: Model) -> None:
    card = (model.directory / "model_card.html").read_text(encoding="utf-8")

    names = {
        "classes": ("log loss", "predicted second", "mean accuracy of the classes"),
        "value": ("root mean squared error", "R²", "Outcome by prediction in ten groups"),
    }
    assert all(name in card for name in names[model.recipe.kind])
    assert "threshold" not in card.lower()
    assert "rise of the" in card


def test_the_answers_to_resampled_training_rows_are_like_training(model: Model) -> None:
    records = model.resampled(600)

    profile = model.profile(records)

    scores, predictions = profile["scores"], model.predictions(records)
    assert scores["reading"] == "like training"
    assert scores["thresholds"] == []
    if model.recipe.kind == "classes":
        assert [name for name, _ in scores["choices"]] == list(model.recipe.classes)
        assert scores["counts"] == [predictions.count(name) for name in model.recipe.classes]
        assert scores["mean"] is None
    else:
        numbers = np.array(predictions, np.float32)
        bins = np.searchsorted(np.array(scores["edges"], np.float32), numbers, side="right")
        assert len(scores["edges"]) == 9
        assert scores["counts"] == np.bincount(bins).tolist()
        assert scores["mean"] == pytest.approx(numbers.mean(), rel=1e-5)
        assert scores["training"]["mean"] == pytest.approx(
            model.scorer.outputs(model.data.rows.astype(np.float32)).mean(), rel=1e-5
        )


def test_answers_unlike_those_of_training_are_noticed_and_shown(model: Model) -> None:
    records = model.resampled(1200)
    predictions = model.predictions(records)
    limit = "second" if model.recipe.kind == "classes" else 200
    chosen = [one for one, answer in zip(records, predictions, strict=True) if answer >= limit]

    profile = model.profile(chosen)

    told = "\n".join(differences(profile))
    page = Page(report_page(summary_of(profile), profile))
    assert profile["scores"]["reading"] == "far from training"
    if model.recipe.kind == "classes":
        assert "`prediction` is first in 0 % of rows, in training in 33 %" in told
        assert re.search(r"second: \d\d % here, 39 % in training", page.text)
    else:
        assert re.search(r"The mean score is 2\d\d points, in training 152 points", told)
        assert re.search(r"Mean score, points2\d\d", page.text)
        assert "lowest to 79.8" in page.text
    assert page.elements.count("svg") == 1 + len(profile["fields"])


def test_profiles_of_answers_add_up_and_are_compared_with_earlier_ones(model: Model) -> None:
    records = model.resampled(900)
    limit = "second" if model.recipe.kind == "classes" else 200
    high = [
        one
        for one, answer in zip(records, model.predictions(records), strict=True)
        if answer >= limit
    ]
    whole, before = model.profile(high), ProfileSum(model.profile(records))
    halves = ProfileSum(model.profile(high[::2]))

    halves.add(model.profile(high[1::2]))

    added = halves.profile()
    assert added["scores"]["counts"] == pytest.approx(whole["scores"]["counts"], abs=8)
    assert added["scores"]["psi"] == pytest.approx(whole["scores"]["psi"], rel=0.05)
    compared = compared_with(added, before.profile())
    assert compared["scores"]["reading"] == "far from training"
    told = {
        "classes": "`prediction` is first in 0 % of rows, last week",
        "value": "points, last week",
    }
    assert told[model.recipe.kind] in "\n".join(differences(compared, "last week"))


def test_a_manifest_without_what_the_answers_were_like_is_served_without_a_comparison(
    model: Model,
) -> None:
    records = model.resampled(100)
    known = model.artifact.manifest.reference
    assert known is not None
    partly = known.model_copy(update={"scores": (0.05,) * 20, "score_edges": (), "mean_score": 0})

    unknown = model.profile(records, reference=None)
    fields_only = model.profile(records, reference=partly)

    assert unknown["scores"]["reading"] == "no reference"
    assert sum(unknown["scores"]["counts"]) == 100
    assert fields_only["scores"]["reading"] == "no reference"
    assert fields_only["fields"][0]["reading"] == "like training"
    assert "Nothing was compared" in Page(report_page(summary_of(unknown), unknown)).text


def test_a_prediction_far_beyond_those_of_training_is_counted_exactly(tmp_path: Path) -> None:
    model = trained("value", tmp_path)

    class Huge:
        version = "huge"

        def outputs(self, rows: Any) -> Any:
            return np.where(np.arange(len(rows)) % 2, 3e38, -1e38).astype(np.float32)

    artifact = Artifact(model.artifact.manifest, model.artifact.sha256, Huge())
    profile = profile_of(artifact, model.csv(400))

    assert profile["scores"]["mean"] == pytest.approx(1e38, rel=1e-5)
    assert profile["scores"]["counts"] == [200, *[0] * 8, 200]


@pytest.mark.parametrize("kind", list(RECIPES))
def test_the_scikit_learn_runtime_gives_the_same_answers_as_onnx(kind: str, tmp_path: Path) -> None:
    onnx = trained(kind, tmp_path / "onnx")
    served = trained(kind, tmp_path / "sklearn", runtime="sklearn")
    rows = onnx.data.rows.astype(np.float32)

    assert served.artifact.manifest.served_file == "model.skops"
    assert difference(onnx.scorer.outputs(rows), served.scorer.outputs(rows)).max() < 1e-6


CONVERTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "forest": ("classes", lambda: RandomForestClassifier(20, random_state=0)),
    "extra trees": ("classes", lambda: ExtraTreesClassifier(20, random_state=0)),
    "tree": ("classes", lambda: DecisionTreeClassifier(max_depth=4, random_state=0)),
    "boosting": ("classes", lambda: GradientBoostingClassifier(n_estimators=10, random_state=0)),
    "discriminant": (
        "classes",
        lambda: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
    ),
    "bayes": ("classes", lambda: make_pipeline(StandardScaler(), GaussianNB())),
    "line": ("value", LinearRegression),
    "regression forest": ("value", lambda: RandomForestRegressor(20, random_state=0)),
    "regression tree": ("value", lambda: DecisionTreeRegressor(max_depth=4, random_state=0)),
    "boosted regression": (
        "value",
        lambda: GradientBoostingRegressor(n_estimators=10, random_state=0),
    ),
    "poisson": ("value", lambda: make_pipeline(StandardScaler(), PoissonRegressor())),
}


@pytest.mark.parametrize("name", CONVERTS)
def test_estimators_convert_to_onnx_with_all_outputs_equal(name: str) -> None:
    kind, estimator = CONVERTS[name]
    recipe = RECIPES[kind]
    data = as_served(recipe.load(None))
    fitted = estimator().fit(data.rows, data.outcome)
    rows = parity_rows(recipe.table, data.rows, 4000)
    manifest = Manifest(
        name="test",
        version="1",
        kind=recipe.kind,
        classes=recipe.classes,
        files={},
        data_sha256="",
        fields=recipe.table,
        golden=(Golden(record={}, output=()),),
    )

    graph = stock_graph(fitted, recipe.table, recipe.answer_kind)

    assert check_parity(OnnxModel(graph, manifest), fitted, rows, recipe.answer_kind) < 1e-6


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Classes(("a", "b")), np.array([[0.2, 0.2]], np.float32)),
        (Classes(("a", "b")), np.array([[1.2, -0.2]], np.float32)),
        (Classes(("a", "b")), np.array([[np.nan, 1]], np.float32)),
        (Classes(("a", "b")), np.array([0.2], np.float32)),
        (Value(), np.array([np.inf], np.float32)),
        (Value(), np.array([[1.0]], np.float32)),
    ],
)
def test_an_output_that_is_no_answer_becomes_no_score(kind: Kind, answer: Any) -> None:
    class Wrong:
        version = "wrong"

        def outputs(self, rows: Any) -> Any:
            return np.concatenate([answer] * len(rows))

    scorer = Scorer(Wrong(), wine.TABLE, kind)
    rows = np.ones((2, 13), np.float32)

    with pytest.raises(ModelFault):
        scorer.outputs(rows)
    assert not kind.answered(scorer.outputs_each(rows)).any()


def test_a_changed_golden_answer_is_refused(model: Model, tmp_path: Path) -> None:
    manifest = json.loads((model.directory / "manifest.json").read_text())
    manifest["golden"][0]["output"][-1] += 0.5
    for file in model.directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(StartupError, match="golden record 1 scores"):
        load_artifact(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "outcome", "reason"),
    [
        (wine.MODEL, np.arange(178) % 2, "0 to 2, for 3 classes"),
        (wine.MODEL, np.array(["first"] * 178), "index of the row's class"),
        (wine.MODEL, np.r_[np.zeros(86), np.ones(86), [2] * 6].astype(int), "third has 6"),
        (diabetes.MODEL, np.full(442, 7.0), "same outcome"),
        (diabetes.MODEL, np.r_[np.nan, np.ones(441)], "a number in every row"),
    ],
)
def test_an_outcome_of_another_kind_is_refused(recipe: Recipe, outcome: Any, reason: str) -> None:
    data = replace(recipe.load(None), outcome=outcome)

    with pytest.raises(TrainingError, match=reason):
        check_data(recipe, data)


@pytest.mark.parametrize("classes", [(), ("one",), ("a", "a"), ("a", "b c"), ("a", "")])
def test_classes_need_names_that_columns_can_have(classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="classes: "):
        kind_of("classes", threshold=None, classes=classes, unit="")
