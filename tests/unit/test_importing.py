"""A finished model becomes an artifact with the same answers."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
import skl2onnx
import skops.io
import yaml
from onnx import TensorProto, helper, numpy_helper
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from xgboost import XGBClassifier

from shared.records.artifact import Artifact, load_artifact
from shared.records.estimator import SKOPS
from training.errors import TrainingError
from training.importing.models import Trust
from training.importing.run import Request, import_model
from training.importing.table import as_python, first_table, sample_of
from training.model_file import read_model_file

TRUSTED = Trust(pickle=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def skids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives with a speed, a wet road or not or unknown, tyres, and whether there was a skid."""
    path = tmp_path_factory.mktemp("skids") / "skids.csv"
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["Speed (km/h)", "wet", "tyres", "skid"])
        for _ in range(300):
            speed, wet = round(chance.uniform(20, 180), 1), chance.choice(["0", "1", ""])
            skid = speed + (40 if wet == "1" else 0) + chance.gauss(0, 40) > 140
            tyres = chance.choice(["summer", "winter"])
            lines.writerow([speed, wet, tyres, "yes" if skid else "no"])
    return path


@pytest.fixture(scope="session")
def frame(skids: Path) -> pd.DataFrame:
    return pd.read_csv(skids)


NUMBERS = ["Speed (km/h)", "wet"]


@pytest.fixture(scope="session")
def trees(frame: pd.DataFrame) -> Any:
    """Fitted to an array of two columns."""
    boosting = GradientBoostingClassifier(n_estimators=10, random_state=0)
    return make_pipeline(SimpleImputer(), boosting).fit(frame[NUMBERS].to_numpy(), frame["skid"])


@pytest.fixture(scope="session")
def words(frame: pd.DataFrame) -> Any:
    """Fitted to a DataFrame with a column of words."""
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["tyres"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(
        frame[[*NUMBERS, "tyres"]], frame["skid"]
    )


@pytest.fixture
def numbers_only(frame: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    frame[NUMBERS].to_csv(path, index=False)
    return path


def imported(model: Path, fields: Path, **options: Any) -> Artifact:
    request = Request(model, fields, **{"trust": TRUSTED, "outcome": "skid"} | options)
    output = model.parent / "artifact"
    import_model(request, output, lambda _: None)
    return load_artifact(output)


def expected(estimator: Any, rows: Any) -> Any:
    return estimator.predict_proba(rows)[:, 1]


def test_a_joblib_file_becomes_an_onnx_artifact(
    trees: Any, numbers_only: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(trees, path, compress=3)

    artifact = imported(path, numbers_only)

    rows = frame[NUMBERS].to_numpy()
    found = artifact.model.outputs(rows.astype(np.float32))
    assert np.abs(found - expected(trees, rows)).max() < 1e-6
    assert artifact.manifest.runtime == "onnx"
    assert artifact.manifest.fields.used_names == ("Speed_km_h", "wet")
    card = (tmp_path / "artifact" / "model_card.html").read_text()
    assert "Imported, not evaluated here" in card
    assert "model.joblib, fitted with scikit-learn" in card


@pytest.mark.slow
def test_a_skops_file_of_a_dataframe_with_words_is_served_by_scikit_learn(
    words: Any, skids: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(words, path)

    artifact = imported(path, skids, trust=Trust())

    manifest = artifact.manifest
    assert (manifest.runtime, manifest.frame) == ("sklearn", True)
    assert SKOPS in manifest.files
    tyres = (frame["tyres"] == "winter").to_numpy(np.float32)
    rows = np.column_stack([frame[NUMBERS].to_numpy(np.float32), tyres])
    found = artifact.model.outputs(rows)
    assert np.abs(found - expected(words, frame[[*NUMBERS, "tyres"]])).max() < 1e-6


def test_an_estimator_of_a_dataframe_of_numbers_converts_whatever_the_order_of_the_fields(
    frame: pd.DataFrame, skids: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.pkl"
    columns = ColumnTransformer([("wet", SimpleImputer(), ["wet"])], remainder="passthrough")
    names = ["wet", "Speed (km/h)"]
    fitted = make_pipeline(columns, LogisticRegression()).fit(frame[names], frame["skid"])
    joblib.dump(fitted, path)

    artifact = imported(path, skids)

    assert (artifact.manifest.runtime, artifact.manifest.frame) == ("onnx", True)
    assert artifact.manifest.fields.used_names == ("wet", "Speed_km_h")
    rows = frame[names]
    found = artifact.model.outputs(rows.to_numpy(np.float32))
    assert np.abs(found - expected(fitted, rows)).max() < 1e-6


def test_an_estimator_that_does_not_convert_is_served_by_scikit_learn(
    frame: pd.DataFrame, numbers_only: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    boosting = HistGradientBoostingClassifier(max_iter=5)
    skops.io.dump(boosting.fit(frame[NUMBERS].to_numpy(), frame["skid"]), path)
    said: list[str] = []

    manifest = import_model(Request(path, numbers_only), tmp_path / "artifact", said.append)

    assert manifest.runtime == "sklearn"
    assert any("no public form of its trees" in line for line in said)
    with pytest.raises(TrainingError, match="no public form of its trees"):
        imported(path, numbers_only, runtime="onnx")


def test_a_pickle_is_loaded_only_where_the_user_trusts_it(
    trees: Any, numbers_only: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(trees, path)

    with pytest.raises(TrainingError, match=r"may run any code.*SCORER_ALLOW_PICKLE=1"):
        imported(path, numbers_only, trust=Trust())


@pytest.mark.parametrize("name", ["plain.joblib", "packed.joblib", "old.pkl", "model.skops"])
def test_another_version_of_scikit_learn_is_read_before_the_file_is_loaded(
    name: str, trees: Any, numbers_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    with monkeypatch.context() as older:
        older.setattr("sklearn.base.__version__", "1.2.3")
        if name == "model.skops":
            skops.io.dump(trees, path)
        else:
            joblib.dump(trees, path, compress=name == "packed.joblib", protocol=2)

    with pytest.raises(TrainingError, match=r"fitted with scikit-learn 1\.2\.3.*--accept-version"):
        imported(path, numbers_only, trust=Trust())

    artifact = imported(path, numbers_only, trust=Trust(pickle=True, other_version=True))
    assert artifact.manifest.figures["imported"] == f"{name}, fitted with scikit-learn 1.2.3"


def test_a_held_out_file_evaluates_without_a_fit_and_the_card_says_so(
    trees: Any, numbers_only: Path, skids: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(trees, path)

    held_out = imported(path, numbers_only, data=skids, method="held_out")

    figures = held_out.manifest.figures
    assert figures["held_out"]["auc"] > 0.7
    assert "cross_validated" not in figures
    card = (tmp_path / "artifact" / "model_card.html").read_text()
    assert "on rows that the model was not fitted to, as whoever imported it states" in card
    assert "Cross-validated" not in card
    in_sample = imported(path, numbers_only, data=skids, method="in_sample")
    assert in_sample.manifest.figures["in_sample"] == figures["held_out"]
    assert (
        "rows that the model was fitted to: figures for other rows are worse"
        in (tmp_path / "artifact" / "model_card.html").read_text()
    )


def test_with_data_an_option_must_say_whether_the_model_was_fitted_to_them(
    trees: Any, numbers_only: Path, skids: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(trees, path)

    with pytest.raises(TrainingError, match="was the model fitted to them"):
        imported(path, numbers_only, data=skids)


def mlflow_folder(folder: Path, flavor: dict[str, Any], inputs: str) -> Path:
    folder.mkdir()
    described = {"flavors": flavor, "signature": {"inputs": inputs}}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    return folder


SIGNATURE = (
    '[{"type": "double", "name": "Speed (km/h)", "required": true}, '
    '{"type": "long", "name": "wet", "required": false}]'
)


def test_an_mlflow_folder_of_xgboost_is_imported_by_its_signature(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    fitted = XGBClassifier(n_estimators=5, n_jobs=1).fit(
        frame[NUMBERS].rename(columns={"Speed (km/h)": "speed"}), frame["skid"] == "yes"
    )
    flavor = {"xgboost": {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBClassifier"}}
    folder = mlflow_folder(tmp_path / "mine", flavor, SIGNATURE.replace("Speed (km/h)", "speed"))
    fitted.save_model(folder / "model.ubj")

    artifact = imported(folder, folder / "MLmodel", trust=Trust())

    assert artifact.manifest.name == "mine"
    rows = frame[NUMBERS].to_numpy(np.float32)
    assert np.abs(artifact.model.outputs(rows) - expected(fitted, rows)).max() < 1e-6
    speed, wet = artifact.manifest.fields.fields
    assert (speed.required, wet.required) == (True, False)


def test_an_mlflow_folder_of_scikit_learn_with_another_version_is_refused(
    trees: Any, tmp_path: Path
) -> None:
    flavor = {"sklearn": {"pickled_model": "model.skops", "sklearn_version": "1.2.3"}}
    folder = mlflow_folder(tmp_path / "mine", flavor, SIGNATURE)
    skops.io.dump(trees, folder / "model.skops")

    with pytest.raises(TrainingError, match=r"mine was fitted with scikit-learn 1\.2\.3"):
        imported(folder, folder / "MLmodel")


@pytest.mark.parametrize(
    ("flavor", "reason"),
    [
        ({"pytorch": {}}, "has the flavours pytorch: only sklearn"),
        ({"sklearn": {"pickled_model": "../model.skops"}}, "a file outside its folder"),
        ({"lightgbm": {"data": "model.lgb"}}, "a Booster of LightGBM: save the LGBMClassifier"),
    ],
)
def test_an_mlflow_folder_that_cannot_be_imported_says_why(
    flavor: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = mlflow_folder(tmp_path / "mine", flavor, SIGNATURE)

    with pytest.raises(TrainingError, match=reason):
        imported(folder, folder)


@pytest.mark.slow
def test_an_onnx_file_with_an_input_for_each_column_and_a_zipmap_is_imported(
    words: Any, skids: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    number, text = FloatTensorType([None, 1]), StringTensorType([None, 1])
    types = [(NUMBERS[0], number), (NUMBERS[1], number), ("tyres", text)]
    path.write_bytes(skl2onnx.convert_sklearn(words, initial_types=types).SerializeToString())

    artifact = imported(path, skids)

    tyres = (frame["tyres"] == "winter").to_numpy(np.float32)
    rows = np.column_stack([frame[NUMBERS].to_numpy(np.float32), tyres])
    found = artifact.model.outputs(rows)
    assert np.abs(found - expected(words, frame[[*NUMBERS, "tyres"]])).max() < 1e-5
    assert not artifact.manifest.has_estimator


@pytest.fixture(scope="session")
def roads(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The numbers with a third answer of three words, and one that is a number."""
    path = tmp_path_factory.mktemp("roads") / "roads.csv"
    speed = frame[NUMBERS[0]]
    road = np.where(speed > 120, "motor-way", np.where(speed > 60, "road", "street"))
    brake = (speed / 10) ** 2 * np.where(frame["wet"] == 1, 2, 1)
    frame[NUMBERS].assign(road=road, brake=brake.round(1)).to_csv(path, index=False)
    return path


def test_a_model_of_three_classes_keeps_their_names_and_is_evaluated(
    roads: Path, tmp_path: Path
) -> None:
    data = pd.read_csv(roads)
    rows = data[NUMBERS].to_numpy()
    fitted = RandomForestClassifier(5, max_depth=4, random_state=0).fit(rows, data["road"])
    path, table = tmp_path / "model.skops", tmp_path / "numbers.csv"
    skops.io.dump(fitted, path)
    data[NUMBERS].to_csv(table, index=False)

    artifact = imported(path, table, data=roads, outcome="road", method="held_out")

    manifest = artifact.manifest
    assert (manifest.kind, manifest.runtime) == ("classes", "onnx")
    assert manifest.classes == ("motor_way", "road", "street")
    found = artifact.model.outputs(rows.astype(np.float32))
    assert np.abs(found - fitted.predict_proba(rows)).max() < 1e-6
    assert manifest.figures["held_out"]["accuracy"] > 0.8
    assert manifest.figures["predictions"]["differing"] == 0


def test_a_regressor_is_imported_and_evaluated(roads: Path, tmp_path: Path) -> None:
    data = pd.read_csv(roads)
    rows = data[NUMBERS].to_numpy()
    trees = GradientBoostingRegressor(n_estimators=20, random_state=0)
    fitted = make_pipeline(SimpleImputer(), trees).fit(rows, data["brake"])
    path, table = tmp_path / "model.skops", tmp_path / "numbers.csv"
    skops.io.dump(fitted, path)
    data[NUMBERS].to_csv(table, index=False)

    artifact = imported(path, table, data=roads, outcome="brake", method="in_sample")

    manifest = artifact.manifest
    assert (manifest.kind, manifest.runtime, manifest.threshold) == ("value", "onnx", None)
    found = artifact.model.outputs(rows.astype(np.float32))
    assert np.allclose(found, fitted.predict(rows), rtol=1e-5)
    assert manifest.figures["in_sample"]["r2"] > 0.5


@pytest.mark.parametrize("zipmap", [True, False])
def test_an_onnx_classifier_of_three_classes_is_imported(
    zipmap: bool, roads: Path, tmp_path: Path
) -> None:
    data = pd.read_csv(roads)
    rows = data[NUMBERS].to_numpy(np.float32)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    fitted = make_pipeline(SimpleImputer(), forest).fit(rows, data["road"])
    path, table = tmp_path / "model.onnx", tmp_path / "numbers.csv"
    options = {id(fitted): {"zipmap": zipmap}}
    path.write_bytes(skl2onnx.to_onnx(fitted, rows[:1], options=options).SerializeToString())
    data[NUMBERS].to_csv(table, index=False)

    artifact = imported(path, table)

    manifest = artifact.manifest
    named = ("motor_way", "road", "street") if zipmap else ("0", "1", "2")
    assert (manifest.kind, manifest.classes) == ("classes", named)
    found = artifact.model.outputs(rows)
    assert np.abs(found - fitted.predict_proba(rows)).max() < 1e-5


def test_an_onnx_regressor_is_imported(roads: Path, tmp_path: Path) -> None:
    data = pd.read_csv(roads)
    rows = data[NUMBERS].to_numpy(np.float32)
    fitted = make_pipeline(SimpleImputer(), LinearRegression()).fit(rows, data["brake"])
    path, table = tmp_path / "model.onnx", tmp_path / "numbers.csv"
    path.write_bytes(skl2onnx.to_onnx(fitted, rows[:1]).SerializeToString())
    data[NUMBERS].to_csv(table, index=False)

    artifact = imported(path, table)

    assert artifact.manifest.kind == "value"
    assert np.allclose(artifact.model.outputs(rows), fitted.predict(rows), rtol=1e-4)


def net(first: str | int, classes: int = 1, columns: int = 2, final: str = "") -> bytes:
    """A small neural network: input x, output y."""
    chance = np.random.default_rng(0)
    weights = numpy_helper.from_array(
        (0.1 * chance.normal(size=(columns, classes))).astype(np.float32), "w"
    )
    final = final or ("Sigmoid" if classes == 1 else "Softmax")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node(final, ["z"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, classes])],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=8
    ).SerializeToString()
    return content


FIELDS = """
from shared.records.schema import FieldSpec, FieldTable
from training.recipe import Recipe

def number(name):
    return FieldSpec(
        name=name, title=name, kind="number", accept=(0, 10), training=(0, 10), required=True
    )

MODEL = Recipe(
    name="net", version="1.0.0", title="", table=FieldTable(fields=(number("a"), number("b")))
)
"""


@pytest.fixture
def two_numbers(tmp_path: Path) -> Path:
    path = tmp_path / "fields.py"
    path.write_text(FIELDS)
    return path


@pytest.mark.parametrize(("first", "classes"), [("n", 1), ("n", 2), (1, 1)])
def test_a_network_with_one_input_is_imported(
    first: str | int, classes: int, two_numbers: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(net(first, classes))

    artifact = imported(path, two_numbers)

    assert artifact.manifest.one_by_one == (first == 1)
    [weights] = onnx.load_from_string(net(first, classes)).graph.initializer
    rows = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    scores = rows @ numpy_helper.to_array(weights)
    score = scores[:, 0] if classes == 1 else scores[:, 1] - scores[:, 0]
    assert np.allclose(artifact.model.outputs(rows), 1 / (1 + np.exp(-score)), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no model", "is not an ONNX model"),
        (net("n", columns=3), "takes 3 columns, the field table uses 2"),
        (net("n", final="Identity", classes=2), "the outputs of the ONNX file are y: exactly one"),
        (net(5), "takes a fixed number of rows"),
    ],
)
def test_an_onnx_file_that_does_not_fit_is_refused_with_the_reason(
    content: bytes, reason: str, two_numbers: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(TrainingError, match=reason):
        imported(path, two_numbers)


def test_models_that_cannot_be_imported_say_why(
    frame: pd.DataFrame, numbers_only: Path, skids: Path, trees: Any, tmp_path: Path
) -> None:
    filled = frame[NUMBERS].fillna(0)
    for name, model, fields, reason in (
        ("line", LinearSVC().fit(filled.to_numpy(), frame["skid"]), numbers_only, "no predict_pro"),
        ("trees", trees, skids, "was fitted to 2 columns, the field table uses 3"),
        ("named", LogisticRegression().fit(filled.add_prefix("a"), frame["skid"]), skids, "lacks"),
        (
            "filled",
            LogisticRegression().fit(filled.to_numpy(), frame["skid"]),
            numbers_only,
            "contains NaN.*correct the field table",
        ),
    ):
        path = tmp_path / f"{name}.joblib"
        joblib.dump(model, path)

        with pytest.raises(TrainingError, match=reason):
            imported(path, fields)


def test_a_first_table_of_a_file_runs_as_python_and_reads_the_file(
    skids: Path, tmp_path: Path
) -> None:
    first = first_table(sample_of(skids), without=["skid"])
    path = tmp_path / "fields.py"
    path.write_text(as_python(first, "skids.csv", "skids"))

    recipe = read_model_file(path)

    assert recipe.table == first.table
    speed, wet, tyres = recipe.table.fields
    assert (speed.name, speed.column, speed.title) == ("Speed_km_h", "Speed (km/h)", "Speed (km/h)")
    assert (speed.kind, speed.required, wet.required) == ("number", True, False)
    assert speed.accept[0] == 0
    assert speed.accept[1] > 300
    assert wet.boolean
    assert wet.codes == {0, 1}
    assert [choice.word for choice in tyres.choices] == ["summer", "winter"]


def test_a_column_that_can_be_no_field_is_left_out_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    lines = [f"{n};{n},5;text {n};" for n in range(100)]
    path.write_text("id;size;remark;empty\n" + "\n".join(lines))

    first = first_table(sample_of(path))

    [size] = first.table.fields
    assert size.training == (0.5, 99.5)
    assert first.left_out == (
        "id: the record's own id",
        "remark: 100 different texts: neither a number nor a category",
        "empty: all cells are missing",
    )
