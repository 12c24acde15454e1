"""Your own models: the examples, and conversions that could fail silently."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from xgboost import XGBClassifier

from shared.records.artifact import Golden, Manifest, OnnxModel, SklearnModel, load_artifact
from shared.records.estimator import SKOPS, load_estimator
from shared.records.kinds import Probability, difference
from shared.records.schema import FieldSpec, FieldTable
from shared.records.scoring import Scorer
from training.checks import new_estimator
from training.errors import TrainingError
from training.examples import heart_boosting
from training.export import check_loads_elsewhere, pickled
from training.graph import stock_graph
from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.model_file import read_model_file
from training.parity import check_parity, check_rounding, parity_rows
from training.recipe import Dataset, Recipe
from training.report import summary
from training.threshold import compare_predictions, with_own_threshold
from training.train import as_served, run, train

EXAMPLES = Path(__file__).parents[2] / "training" / "examples"


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("[a-z]*.py")))
def test_an_example_trains_and_is_served_as_scikit_learn_scores(name: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.py"
    recipe = read_model_file(path)

    manifest = train(read_model_file(path), tmp_path / "model", progress=quiet)

    artifact = load_artifact(tmp_path / "model")
    data = as_served(recipe.load(None))
    fitted = new_estimator(recipe).fit(data.rows, data.outcome)
    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    found = scorer.outputs(data.rows.astype(np.float32))
    assert difference(found, scorer.kind.of_estimator(fitted, data.rows)).max() < 1e-6
    figures = manifest.figures["cross_validated"]
    assert figures.get("auc", 0) > 0.7 or figures["r2"] > 0.45
    served = "model.skops" if recipe.runtime == "sklearn" else "model.onnx"
    assert {served, "model_card.html"} <= manifest.files.keys()
    library = name.removeprefix("heart_")
    if library in ("catboost", "lightgbm", "xgboost"):
        assert any(known.startswith(library) for known in manifest.libraries)


CONVERT = """
import sys
from training.examples.heart_boosting import MODEL
from training.graph import stock_graph
data = MODEL.load(None)
content = stock_graph(MODEL.estimator().fit(data.rows, data.outcome), MODEL.table)
sys.stdout.buffer.write(content)
"""


@pytest.mark.slow
def test_a_stock_model_twice_gives_the_same_bytes() -> None:
    # Two orders of the elements of sets.
    first, second = (
        subprocess.run(
            [sys.executable, "-c", CONVERT],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=EXAMPLES.parents[1],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    )

    assert first == second
    assert len(first) > 1000


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):  # more only spin on matrices of this size
        yield


def filled_line() -> Any:
    return make_pipeline(SimpleImputer(), LogisticRegression(max_iter=2000))


def forest(**options: Any) -> Any:
    return RandomForestClassifier(**{"n_estimators": 20, "random_state": 0} | options)


def boosting() -> Any:
    return GradientBoostingClassifier(n_estimators=20, random_state=0)


def xgboost(**options: Any) -> Any:
    return XGBClassifier(**{"n_estimators": 20, "n_jobs": 1, "random_state": 0} | options)


def prepared(final: Any) -> Any:
    """Impute, scale and one-hot encode, then `final`."""
    codes = [TABLE.used_names.index(name) for name in ("cp", "slope", "thal")]
    numbers = [index for index in range(len(TABLE.used)) if index not in codes]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "codes",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
                ),
                codes,
            ),
        ]
    )
    return make_pipeline(columns, final)


LINE_AND_FOREST = [("line", LogisticRegression(max_iter=2000)), ("forest", forest())]

CONVERTS: dict[str, Callable[[], Any]] = {
    "XGBoost": xgboost,
    "XGBoost in a pipeline": lambda: prepared(xgboost()),
    "calibrated XGBoost": lambda: CalibratedClassifierCV(xgboost()),
    "line": lambda: prepared(LogisticRegression(max_iter=2000)),
    "forest": lambda: prepared(forest()),
    "large forest": lambda: prepared(forest(n_estimators=500, max_depth=4)),
    "forest with its own routes for missing values": forest,
    "extra trees": lambda: prepared(ExtraTreesClassifier(20, random_state=0)),
    "tree": lambda: prepared(DecisionTreeClassifier(max_depth=4, random_state=0)),
    "tree without a split": lambda: prepared(DecisionTreeClassifier(min_samples_split=1000)),
    "boosting": lambda: prepared(boosting()),
    "bagged trees": lambda: prepared(BaggingClassifier(n_estimators=10, random_state=0)),
    "bagged lines": lambda: prepared(
        BaggingClassifier(LogisticRegression(max_iter=2000), max_features=0.5, random_state=0)
    ),
    "AdaBoost": lambda: prepared(AdaBoostClassifier(n_estimators=20, random_state=0)),
    "voting": lambda: prepared(VotingClassifier(LINE_AND_FOREST, voting="soft", weights=[1, 3])),
    "stacking": lambda: prepared(
        StackingClassifier(LINE_AND_FOREST, LogisticRegression(), passthrough=True)
    ),
    "stacking around pipelines": lambda: StackingClassifier(
        [("a", prepared(LogisticRegression(max_iter=2000))), ("b", prepared(boosting()))]
    ),
    "sigmoid calibration": lambda: prepared(CalibratedClassifierCV(forest())),
    "sigmoid calibration around a pipeline": lambda: CalibratedClassifierCV(filled_line()),
    "isotonic calibration": lambda: prepared(CalibratedClassifierCV(boosting(), method="isotonic")),
    "isotonic calibration around a pipeline": lambda: CalibratedClassifierCV(
        prepared(forest()), method="isotonic", ensemble=False
    ),
    "calibrated support vectors": lambda: prepared(CalibratedClassifierCV(LinearSVC())),
    "discriminant analysis": lambda: prepared(LinearDiscriminantAnalysis()),
    "flags of missing values": lambda: make_pipeline(
        SimpleImputer(add_indicator=True), LogisticRegression(max_iter=2000)
    ),
    "min-max scaling before trees": lambda: make_pipeline(
        SimpleImputer(), MinMaxScaler(), forest()
    ),
    "neighbours": lambda: prepared(KNeighborsClassifier(15)),
    "neural network": lambda: prepared(MLPClassifier((8,), max_iter=3000, random_state=0)),
    "search": lambda: GridSearchCV(filled_line(), {"logisticregression__C": [0.1, 1]}),
}


@pytest.fixture(scope="session")
def heart() -> Dataset:
    return as_served(read_heart())


@pytest.mark.parametrize("name", CONVERTS)
def test_a_usual_pipeline_converts_to_what_scikit_learn_computes(name: str, heart: Dataset) -> None:
    fitted = CONVERTS[name]().fit(heart.rows, heart.outcome)
    rows = parity_rows(TABLE, heart.rows, 4000)

    graph = stock_graph(fitted, TABLE)

    assert check_parity(OnnxModel(graph, A_MANIFEST), fitted, rows, KIND) < 1e-6


A_MANIFEST = Manifest(
    name="test",
    version="1",
    files={},
    data_sha256="",
    threshold=0.5,
    fields=TABLE,
    golden=(Golden(record={}, output=()),),
)
KIND = A_MANIFEST.answer_kind


class Doubled(FunctionTransformer):  # type: ignore[misc]
    """A transformer that no converter knows."""

    def __init__(self) -> None:
        super().__init__(lambda rows: 2 * rows)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "HistGradientBoostingClassifier": (
        lambda: HistGradientBoostingClassifier(max_iter=10),
        r"step HistGradientBoostingClassifier .*no public form of its trees",
    ),
    "LGBMClassifier": (
        lambda: LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1),
        r"step LGBMClassifier .*no converter knows its class",
    ),
    "CatBoostClassifier": (
        lambda: CatBoostClassifier(iterations=5, verbose=False, allow_writing_files=False),
        r"step CatBoostClassifier .*no converter knows its class",
    ),
    "XGBClassifier": (
        lambda: xgboost(booster="dart"),
        r"step XGBClassifier .*only the booster gbtree converts",
    ),
    "KNNImputer": (
        lambda: make_pipeline(KNNImputer(), LogisticRegression(max_iter=2000)),
        r"step knnimputer \(KNNImputer\) .*converts it wrongly",
    ),
    "PowerTransformer": (
        lambda: make_pipeline(SimpleImputer(), PowerTransformer(), LogisticRegression()),
        r"step powertransformer \(PowerTransformer\) .*converts it wrongly",
    ),
    "KBinsDiscretizer": (
        lambda: make_pipeline(
            SimpleImputer(),
            KBinsDiscretizer(3, strategy="uniform"),
            LogisticRegression(),
        ),
        r"step kbinsdiscretizer \(KBinsDiscretizer\) .*sparse",
    ),
    "CalibratedClassifierCV": (
        lambda: prepared(CalibratedClassifierCV(LogisticRegression(), method="temperature")),
        "only sigmoid and isotonic calibration convert",
    ),
    "FunctionTransformer": (
        lambda: make_pipeline(SimpleImputer(), Doubled(), LogisticRegression(max_iter=2000)),
        r"step doubled \(Doubled\)",
    ),
}


# XGBoost 3.4, which needs Python 3.12, still has this booster.
@pytest.mark.filterwarnings("ignore:(?s).*booster=dart. is deprecated:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_a_step_that_does_not_convert_is_refused_with_its_reason(name: str, heart: Dataset) -> None:
    make, reason = REFUSED[name]
    fitted = make().fit(heart.rows, heart.outcome)

    with pytest.raises(TrainingError, match=reason) as refused:
        stock_graph(fitted, TABLE)

    assert "set runtime='sklearn'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_xgboost_together_with_trees_of_scikit_learn_is_refused(heart: Dataset) -> None:
    both = VotingClassifier([("one", xgboost()), ("other", forest())], voting="soft")
    fitted = both.fit(np.nan_to_num(heart.rows), heart.outcome)

    with pytest.raises(TrainingError, match="use one of the two, or set runtime='sklearn'"):
        stock_graph(fitted, TABLE)


def test_xgboost_without_its_converter_is_refused(
    heart: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxmltools", None)
    fitted = xgboost().fit(heart.rows, heart.outcome)

    with pytest.raises(TrainingError, match=r"step XGBClassifier .*needs the package onnxmltools"):
        stock_graph(fitted, TABLE)


def test_the_page_lists_the_steps_that_do_not_convert() -> None:
    page = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| `(\w+)[^`]*`", page.split("### What converts")[1], re.MULTILINE)
    assert sorted(listed) == sorted(REFUSED)


def test_a_linear_model_gives_a_row_the_same_bits_among_others() -> None:
    data = read_heart()
    recipe = dataclasses.replace(heart_boosting.MODEL, estimator=filled_line)

    trained = run(recipe, None, 1, quiet)

    assert trained.manifest.figures["parity"]["largest_difference"] < 1e-6
    assert len(trained.manifest.golden) == 5
    assert trained.manifest.data_sha256 == data.sha256


def test_all_figures_are_at_the_threshold_of_the_recipe() -> None:
    data = read_heart()
    recipe = dataclasses.replace(heart_boosting.MODEL, estimator=filled_line, threshold=0.3)

    found = run(recipe, None, 1, quiet).manifest.figures

    ill = filled_line().fit(data.rows, data.outcome).predict_proba(data.rows[data.outcome == 1])
    assert found["apparent"]["sensitivity"] == pytest.approx((ill[:, 1] >= 0.3).mean(), abs=1e-6)
    at_threshold = next(one for one in found["thresholds"] if one["threshold"] == 0.3)
    assert found["cross_validated"]["sensitivity"] == at_threshold["sensitivity"]


class OfThisFile(LogisticRegression):  # type: ignore[misc]
    """An estimator that no server can unpickle."""


def test_an_estimator_of_the_model_file_itself_is_not_served_pickled() -> None:
    data = read_heart()
    filled = np.nan_to_num(data.rows)
    estimator = OfThisFile(max_iter=2000).fit(filled, data.outcome)

    with pytest.raises(TrainingError, match="from scikit-learn's own classes"):
        check_loads_elsewhere(pickled(estimator))


def test_a_table_of_many_optional_fields_still_gets_its_patterns() -> None:
    fields = tuple(
        TABLE.by_name["chol"].model_copy(update={"name": f"chol{place}"}) for place in range(20)
    )
    rows = parity_rows(FieldTable(fields=fields), np.full((3, 20), 200.0))

    missing = np.isnan(rows).sum(axis=1)
    assert len(rows) >= 100_000
    assert missing.min() == 0
    assert missing.max() >= 18


def test_a_model_that_cannot_miss_a_field_says_so(tmp_path: Path) -> None:
    path = tmp_path / "line.py"
    path.write_text(
        "import dataclasses\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from training.examples import heart_boosting\n"
        "MODEL = dataclasses.replace(heart_boosting.MODEL, estimator=LogisticRegression)\n"
    )

    with pytest.raises(TrainingError, match=r"contains NaN.*impute them"):
        train(read_model_file(path), tmp_path / "model", progress=quiet)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "defines no MODEL"), ("MODEL = 1", "defines no MODEL"), (None, "not a Python file")],
)
def test_a_file_that_is_no_model_file_is_named(
    text: str | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)

    with pytest.raises(TrainingError, match=reason):
        read_model_file(path)


@pytest.mark.slow
def test_parity_compares_what_is_served(tmp_path: Path) -> None:
    train(heart_boosting.MODEL, tmp_path / "model", progress=quiet)
    data = read_heart()
    other = heart_boosting.estimator().set_params(trees__n_estimators=61)
    other.fit(data.rows, data.outcome)
    model = load_artifact(tmp_path / "model").model

    with pytest.raises(TrainingError, match="differs from scikit-learn"):
        check_parity(model, other, parity_rows(TABLE, data.rows), KIND)


def test_a_recipe_without_prose_or_groups_still_has_a_card() -> None:
    def load(path: Path | None) -> Dataset:
        data = read_heart(path)
        return dataclasses.replace(data, rows=data.rows[:, :2])

    used = tuple(
        field.model_copy(update={"used": field.name in ("age", "sex")}) for field in TABLE.fields
    )
    recipe = Recipe(
        name="small",
        version="1",
        title="",
        table=FieldTable(fields=used),
        load=load,
        estimator=lambda: LogisticRegression(max_iter=2000),
    )

    trained = run(recipe, None, 1, quiet)

    assert trained.card.startswith("# small\n")
    assert "## Subgroups" not in trained.card
    assert "`LogisticRegression`" in trained.card


def test_the_page_names_every_option_and_file() -> None:
    page = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    source = (EXAMPLES.parent / "__main__.py").read_text(encoding="utf-8")

    options = re.findall(r'"(--[a-z]+)"', source)
    assert len(options) == 5
    for option in options:
        assert f"`{option} " in page, option
    for path in [*EXAMPLES.parent.glob("*.py"), *EXAMPLES.parent.glob("heart/*.py")]:
        name = path.relative_to(EXAMPLES.parent).as_posix()
        assert "__" in name or name == "errors.py" or f"`{name}`" in page


def fine_data(path: Path | None = None) -> Dataset:
    """Values with more digits than float32 holds, many of them close together."""
    rng = np.random.default_rng(0)
    speed = 100 + rng.uniform(0, 3e-5, 400)
    outcome = (speed - 100 + rng.normal(0, 1e-5, 400) > 1.5e-5).astype(int)
    return Dataset(speed[:, None], outcome, "made up")


FINE = Recipe(
    name="fine",
    version="1",
    title="",
    table=FieldTable(
        fields=(
            FieldSpec(
                name="speed",
                title="Speed",
                kind="number",
                accept=(0, 200),
                training=(100, 101),
                required=True,
            ),
        )
    ),
    load=fine_data,
    estimator=lambda: HistGradientBoostingClassifier(max_iter=30, min_samples_leaf=5),
    runtime="sklearn",
    rounding_limit=1,
    allow=("training_range",),
)


def test_the_served_model_is_the_one_that_was_fitted_to_the_values_as_served() -> None:
    trained = run(FINE, None, 1, quiet)
    data = as_served(fine_data())
    fitted = FINE.estimator().fit(data.rows, data.outcome)
    model = SklearnModel(
        load_estimator(SKOPS, trained.files[SKOPS], trained.manifest.libraries, allow_pickle=False),
        trained.manifest,
    )

    found = model.outputs(data.rows.astype(np.float32))

    assert np.array_equal(found, fitted.predict_proba(data.rows)[:, 1].astype(np.float32))
    assert "on the data as they are" in summary(trained.manifest)


class Served:
    """An estimator that gets float32 values, as on a server."""

    version = "1"

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def outputs(self, rows: Any) -> Any:
        return self.estimator.predict_proba(rows.astype(float))[:, 1].astype(np.float32)


def test_training_counts_the_rows_that_rounding_to_float32_moves_and_fails_beyond_the_limit() -> (
    None
):
    data = fine_data()
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.rows, data.outcome)

    rounding = check_rounding(Served(line), line, data.rows, KIND, limit=1)

    assert rounding["differing"] > 100
    assert rounding["largest_difference"] > 0.1
    with pytest.raises(TrainingError, match="or set rounding_limit in the recipe"):
        check_rounding(Served(line), line, data.rows, KIND, limit=1e-4)


@pytest.mark.parametrize(
    ("estimator", "threshold"),
    [
        (lambda: FixedThresholdClassifier(filled_line(), threshold=0.3), 0.3),
        (lambda: make_pipeline(SimpleImputer(), FixedThresholdClassifier(boosting())), 0.5),
        (lambda: TunedThresholdClassifierCV(filled_line(), thresholds=20), None),
    ],
)
def test_an_estimator_with_a_threshold_sets_the_one_that_is_served(
    estimator: Callable[[], Any], threshold: float | None, heart: Dataset
) -> None:
    fitted = estimator().fit(heart.rows, heart.outcome)

    recipe = with_own_threshold(heart_boosting.MODEL, fitted)

    if threshold is None:
        threshold = fitted.best_threshold_
        assert threshold != 0.5
    assert recipe.threshold == threshold
    counts = compare_predictions(Served(fitted), fitted, heart.rows, recipe.answer_kind)
    assert counts == {"rows": 303, "differing": 0}
    other = compare_predictions(Served(fitted), fitted, heart.rows, Probability(0.9))
    assert other["differing"] > 10


def test_a_threshold_of_a_decision_function_is_refused(heart: Dataset) -> None:
    fitted = FixedThresholdClassifier(
        filled_line(), threshold=-1, response_method="decision_function"
    ).fit(heart.rows, heart.outcome)

    with pytest.raises(TrainingError, match="set response_method='predict_proba'"):
        with_own_threshold(heart_boosting.MODEL, fitted)
