"""A training run: the artifact, its bytes, its figures, and errors that stop it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from shared.records.artifact import MANIFEST, Manifest, OnnxModel, load_artifact
from shared.records.estimator import SKOPS, load_estimator
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation import check_figures
from training.export import write_artifact
from training.figures import calibration_error, figures
from training.heart.graph import pattern_explanation, pattern_graph
from training.heart.model import MODEL
from training.parity import check_explanation, check_parity, parity_rows
from training.report import summary
from training.train import _model_files, run, train

ROOT = Path(__file__).parents[2]
SETS = 2 ** sum(not MODEL.table.fields[index].required for index in MODEL.table.used)
"""Of fields that may be missing."""


class Run(NamedTuple):
    """An artifact, and what its run printed."""

    directory: TemporaryDirectory[str]
    out: str
    err: str

    @property
    def output(self) -> Path:
        return Path(self.directory.name, "artifact")


@cache
def trained() -> Run:
    """One artifact for all tests here."""
    directory = TemporaryDirectory()
    lines: list[str] = []
    manifest = train(MODEL, Path(directory.name, "artifact"), progress=lines.append)
    return Run(directory, summary(manifest), "\n".join(lines))


@cache
def trained_again() -> Run:
    """The same by a process of its own: another hash seed, another order of what has none."""
    directory = TemporaryDirectory()
    output = Path(directory.name, "artifact")
    command = [sys.executable, "-m", "training", "--output", str(output)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    return Run(directory, done.stdout, done.stderr)


@pytest.fixture(name="output")
def _output() -> Path:
    return trained().output


@pytest.fixture(name="estimator")
def _estimator(output: Path) -> Any:
    manifest = load_artifact(output).manifest
    content = (output / SKOPS).read_bytes()
    return load_estimator(SKOPS, content, manifest.libraries, allow_pickle=False)


@pytest.fixture(name="manifest")
def _manifest(output: Path) -> Manifest:
    return load_artifact(output).manifest


def test_the_artifact_of_a_run_loads_and_answers(output: Path) -> None:
    artifact = load_artifact(output)

    assert artifact.golden_holds()
    assert artifact.manifest.version.startswith("1.0.0-")
    assert len(artifact.manifest.golden) == len(MODEL.golden)


def test_the_manifest_holds_the_hash_of_every_other_file(output: Path, manifest: Manifest) -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in output.iterdir()
        if path.name != MANIFEST
    }

    assert found == manifest.files


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(output: Path) -> None:
    again = trained_again().output

    assert {path.name for path in again.iterdir()} == {path.name for path in output.iterdir()}
    for path in output.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_figures_go_to_stdout_and_progress_to_stderr() -> None:
    once, again = trained(), trained_again()

    assert again.out == once.out + "\n"
    assert again.err == once.err.replace(str(once.output), str(again.output)) + "\n"


def test_the_artifact_names_no_place(output: Path) -> None:
    for path in output.iterdir():
        content = path.read_bytes()
        assert str(ROOT).encode() not in content
        assert str(output).encode() not in content


def test_onnx_and_scikit_learn_agree_on_every_patient(output: Path, estimator: Any) -> None:
    rows = MODEL.load(None).rows.astype(np.float32)

    found = load_artifact(output).model.outputs(rows)

    assert np.abs(found - estimator.predict_proba(rows)[:, 1]).max() <= 1e-6


def test_the_graph_uses_standard_operators_only(output: Path) -> None:
    model = onnx.load(output / "model.onnx")

    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert {node.domain for node in model.graph.node} == {""}


def test_parity_covers_every_set_of_missing_fields_and_the_edges() -> None:
    rows = parity_rows(MODEL.table, MODEL.load(None).rows)

    missing = np.isnan(rows)
    assert len(rows) >= 100_000
    assert len(np.unique(missing, axis=0)) == SETS
    assert not missing[:, :2].any()
    chol = MODEL.table.used_names.index("chol")
    for edge in (126, 564, 50, 700):
        assert (rows[:, chol] == edge).any()
    assert (rows[:, chol] == np.nextafter(np.float32(126), np.float32(0))).any()


def test_a_graph_that_differs_from_scikit_learn_is_refused(
    output: Path, estimator: Any, manifest: Manifest
) -> None:
    model = onnx.load(output / "model.onnx")
    [table] = [c for c in model.graph.initializer if c.name == "weights"]
    changed = numpy_helper.to_array(table).copy()
    changed[SETS - 1, 0] += 1e-4  # one field set
    table.CopyFrom(numpy_helper.from_array(changed, "weights"))
    rows = parity_rows(MODEL.table, MODEL.load(None).rows)

    with pytest.raises(
        TrainingError,
        match=rf"would be served differs from scikit-learn by up to .* of {len(rows)} rows",
    ):
        check_parity(
            OnnxModel(model.SerializeToString(), manifest), estimator, rows, manifest.answer_kind
        )


def test_a_graph_whose_rows_depend_on_their_neighbours_is_refused(
    output: Path, estimator: Any, manifest: Manifest
) -> None:
    model = onnx.load(output / "explain.onnx")
    # The same sum in rows that do not fill whole vectors: of eleven numbers, or fifteen.
    zeros = [0, 0, 0, -(len(MODEL.table.used) + 1) % 4]
    model.graph.initializer.append(numpy_helper.from_array(np.array(zeros), "zeros"))
    model.graph.node.extend(
        [
            helper.make_node("Pad", ["contributions", "zeros"], ["padded"]),
            helper.make_node("ReduceSum", ["padded", "last_axis"], ["sum"], keepdims=0),
            helper.make_node("Add", ["sum", "intercept"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ]
    )
    model.graph.output.append(
        helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, ["n"])
    )
    rows = parity_rows(MODEL.table, MODEL.load(None).rows)

    with pytest.raises(TrainingError, match="alone and among others differently"):
        check_parity(
            OnnxModel(model.SerializeToString(), manifest), estimator, rows, manifest.answer_kind
        )


def test_an_explanation_of_another_model_is_refused(output: Path, manifest: Manifest) -> None:
    other = onnx.load(output / "explain.onnx")
    [table] = [c for c in other.graph.initializer if c.name == "intercepts"]
    changed = numpy_helper.to_array(table).copy()
    changed[SETS - 1] += 1e-4  # one field set
    table.CopyFrom(numpy_helper.from_array(changed, "intercepts"))
    content = (output / "model.onnx").read_bytes()
    rows = parity_rows(MODEL.table, MODEL.load(None).rows)

    with pytest.raises(TrainingError, match="other probabilities than the model, by up to"):
        check_explanation(OnnxModel(content, manifest, other.SerializeToString()), rows)


def swapped_outputs(output: Path) -> bytes:
    model = onnx.load(output / "explain.onnx")
    other = {"intercept": "contributions", "contributions": "intercept"}
    for node in model.graph.node:
        node.output[0] = other.get(node.output[0], node.output[0])
    for value in model.graph.output:
        value.name = other[value.name]
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: b"not onnx", "needs the input `fields` and the outputs .*: InvalidProtobuf"),
        (lambda output: (output / "model.onnx").read_bytes(), "needs .* outputs `contributions`"),
        (swapped_outputs, r"needs `contributions` \[n, fields\]"),
    ],
)
def test_an_explanation_that_is_none_is_refused(
    output: Path, manifest: Manifest, content: Callable[[Path], bytes], message: str
) -> None:
    model = OnnxModel((output / "model.onnx").read_bytes(), manifest, content(output))

    with pytest.raises(TrainingError, match=message):
        check_explanation(model, np.zeros((2, len(MODEL.table.used)), np.float32))


def test_an_explanation_of_a_model_that_is_not_onnx_is_refused(estimator: Any) -> None:
    recipe = dataclasses.replace(MODEL, runtime="sklearn")

    with pytest.raises(TrainingError, match="only a model that is served as ONNX"):
        _model_files(recipe, estimator)


@pytest.mark.slow
def test_a_figure_outside_its_tolerance_stops_the_run() -> None:
    expected = {1: dict(MODEL.expected[1]) | {"auc": 0.95}}
    recipe = dataclasses.replace(MODEL, expected=expected)

    with pytest.raises(TrainingError, match=r"auc 0\.918\d \(expected 0\.947 to 0\.953\)"):
        run(recipe, None, 1, lambda _: None)


@pytest.mark.parametrize(("repeats", "nearest"), [(1, 1), (2, 1), (4, 5), (9, 5), (30, 20)])
def test_figures_are_compared_with_those_of_the_nearest_number_of_repeats(
    repeats: int, nearest: int
) -> None:
    found = dict(MODEL.expected[nearest]) | {
        "calibration_slope": 1.0,
        "calibration_intercept": 0.0,
        "ece": 0.04,
    }
    others = {known: dict.fromkeys(one, -1.0) for known, one in MODEL.expected.items()}

    check_figures(found, others | {nearest: MODEL.expected[nearest]}, repeats)

    with pytest.raises(TrainingError, match="ece"):
        check_figures(found | {"ece": 0.08}, MODEL.expected, repeats)


@pytest.mark.slow
def test_another_sample_is_not_compared_with_the_demonstration(tmp_path: Path) -> None:
    source = ROOT / "training" / "heart" / "data" / "heart_cleveland.csv"
    lines = source.read_text().splitlines()
    sample = tmp_path / "sample.csv"
    sample.write_text("\n".join([lines[0], *lines[1::2]]) + "\n")

    manifest = train(MODEL, tmp_path / "artifact", data=sample, progress=lambda _: None)

    assert manifest.figures["rows"] == 152
    assert manifest.data_sha256 == hashlib.sha256(sample.read_bytes()).hexdigest()


def test_a_run_replaces_an_artifact_and_nothing_else(
    output: Path, manifest: Manifest, tmp_path: Path
) -> None:
    files = {name: (output / name).read_bytes() for name in manifest.files}
    old, other = tmp_path / "old", tmp_path / "other"
    old.mkdir()
    (old / MANIFEST).write_text("{}")
    (old / "stale").write_text("")
    other.mkdir()
    (other / "thesis.txt").write_text("")

    write_artifact(old, manifest, files)
    for taken in (other, other / "thesis.txt"):
        with pytest.raises(TrainingError, match="holds something else"):
            write_artifact(taken, manifest, files)

    assert {path.name for path in old.iterdir()} == {*files, MANIFEST}
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "other"]


def test_a_refusal_is_one_line_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "--data", str(tmp_path / "nowhere.csv")])

    code = main()

    out, err = capsys.readouterr()
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_manifest_is_written_with_sorted_keys(output: Path) -> None:
    text = (output / MANIFEST).read_text()

    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def test_calibration_error_is_the_mean_gap_of_equal_groups() -> None:
    outcome = np.array([0, 1] * 50)

    assert calibration_error(outcome, np.full(100, 0.5)) == pytest.approx(0.0)
    assert calibration_error(outcome, np.full(100, 0.8)) == pytest.approx(0.3)


def test_figures_of_a_perfect_and_of_a_useless_prediction() -> None:
    outcome = np.array([0, 1] * 50)
    rng = np.random.default_rng(0)

    perfect = figures(outcome, np.where(outcome, 0.999, 0.001)[None], 0.5)
    useless = figures(outcome, rng.uniform(0.499, 0.501, (1, 100)), 0.5)

    assert (perfect["auc"], perfect["accuracy"]) == (1, 1)
    assert useless["brier"] == pytest.approx(0.25, abs=1e-3)
    assert useless["auc"] == pytest.approx(0.5, abs=0.15)


def test_the_graph_is_a_function_of_the_estimator_alone(output: Path, estimator: Any) -> None:
    for name, build in (("model.onnx", pattern_graph), ("explain.onnx", pattern_explanation)):
        assert build(estimator, MODEL.table) == (output / name).read_bytes()


def test_the_manifest_says_how_patients_with_similar_scores_fared(manifest: Manifest) -> None:
    sets = {tuple(one["fields"]): one["groups"] for one in manifest.figures["similar"]}

    assert set(sets) == set(MODEL.field_sets.values())
    complete = manifest.figures["complete"]
    assert sum(group["n"] for group in sets[manifest.fields.used_names]) == complete
    assert (manifest.noun, manifest.nouns) == ("patient", "patients")


def test_a_hint_with_a_factor_leads_to_an_accepted_value(manifest: Manifest) -> None:
    convertible = [
        (field, hint, hint.factor)
        for field in manifest.fields.fields
        for hint in field.hints
        if hint.factor is not None
    ]

    assert convertible
    for field, hint, factor in convertible:
        middle = (hint.low + hint.high) / 2 * factor
        assert field.accept[0] <= middle <= field.accept[1], (field.name, hint.text)
