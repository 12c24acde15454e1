"""An artifact is checked before it is parsed, and scored before it serves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from xgboost import XGBClassifier

from shared.records.artifact import MANIFEST, OnnxModel, load_artifact
from shared.records.errors import StartupError
from shared.records.estimator import load_estimator
from training.heart.fields import TABLE

AGE_AND_SEX = np.full((1, len(TABLE.used)), np.nan, np.float32)
AGE_AND_SEX[0, :2] = 60, 1


@pytest.fixture
def copy(artifact_dir: Path, tmp_path: Path) -> Path:
    """A copy of the artifact that a test may damage."""
    target = tmp_path / "artifact"
    shutil.copytree(artifact_dir, target)
    return target


def change(directory: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_a_sound_artifact_loads_and_answers(artifact_dir: Path) -> None:
    artifact = load_artifact(artifact_dir)

    assert artifact.golden_holds()
    assert 0 < artifact.model.outputs(AGE_AND_SEX)[0] < 1


def test_the_pinned_hash_is_that_of_the_manifest(artifact_dir: Path) -> None:
    sha256 = hashlib.sha256((artifact_dir / MANIFEST).read_bytes()).hexdigest()

    assert load_artifact(artifact_dir, sha256).sha256 == sha256
    with pytest.raises(StartupError, match="SCORER_MODEL_SHA256"):
        load_artifact(artifact_dir, "0" * 64)


def test_a_model_that_was_trained_before_there_was_a_reference_still_loads(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest.pop("reference", None)
    (copy / "manifest.json").write_text(json.dumps(manifest))

    assert load_artifact(copy).manifest.reference is None


def test_a_missing_artifact_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="heart-scorer train"):
        load_artifact(tmp_path)


def test_a_model_with_another_hash_than_the_manifests_is_not_even_parsed(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"not a model")

    with pytest.raises(StartupError, match="has SHA-256"):
        load_artifact(copy)


def test_an_explanation_that_was_changed_is_refused(copy: Path) -> None:
    (copy / "explain.onnx").write_bytes(b"of another model")

    with pytest.raises(StartupError, match=r"explain\.onnx has SHA-256"):
        load_artifact(copy)


def test_a_model_without_an_explanation_scores_all_the_same(copy: Path) -> None:
    change(copy, lambda manifest: manifest["files"].pop("explain.onnx"))
    model = load_artifact(copy).model
    assert isinstance(model, OnnxModel)

    assert model.outputs(AGE_AND_SEX).shape == (1,)
    with pytest.raises(KeyError):
        model.explain(AGE_AND_SEX)


def test_a_model_that_does_not_parse_is_refused(copy: Path) -> None:
    content = b"not a model"
    (copy / "model.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change(copy, lambda manifest: manifest["files"].update({"model.onnx": digest}))

    with pytest.raises(StartupError, match="does not load"):
        load_artifact(copy)


def test_a_model_that_scores_differently_than_when_it_was_trained_is_refused(copy: Path) -> None:
    change(copy, lambda manifest: manifest["golden"][1].update({"output": [0.123]}))

    with pytest.raises(StartupError, match="golden record 2"):
        load_artifact(copy)


def test_a_manifest_with_an_unknown_entry_is_refused_by_name(copy: Path) -> None:
    change(copy, lambda manifest: manifest.update({"surprise": 1}))

    with pytest.raises(StartupError, match="surprise"):
        load_artifact(copy)


def test_a_pickled_estimator_serves_where_the_manifest_says_so(
    copy: Path, artifact_dir: Path
) -> None:
    change(copy, lambda manifest: manifest.update({"runtime": "sklearn"}))
    onnx, pickled = load_artifact(artifact_dir), load_artifact(copy)

    apart = onnx.model.outputs(AGE_AND_SEX) - pickled.model.outputs(AGE_AND_SEX)
    assert abs(apart[0]) < 1e-6


class Trap:
    """Shows whether it was loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("loaded",)


@pytest.fixture
def pickled(copy: Path) -> Path:
    """An artifact whose estimator is a joblib file that prints when it is loaded."""
    (copy / "model.skops").unlink()
    joblib.dump(Trap(), copy / "model.joblib")
    digest = sha256_of(copy / "model.joblib")
    change(
        copy,
        lambda manifest: manifest.update({"runtime": "sklearn", "files": {"model.joblib": digest}}),
    )
    return copy


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_joblib_file_is_not_loaded_unless_that_is_allowed(
    pickled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StartupError, match="set SCORER_ALLOW_PICKLE=1"):
        load_artifact(pickled)
    assert capsys.readouterr().out == ""

    for permission in ({"allow_pickle": True}, {"expected": True}):
        pin = sha256_of(pickled / "manifest.json") if "expected" in permission else None
        with pytest.raises(StartupError, match="golden"):  # what it prints is no estimator
            load_artifact(pickled, pin, allow_pickle="allow_pickle" in permission)
        assert capsys.readouterr().out == "loaded\n"


def test_skops_loads_no_types_but_those_of_scikit_learn_and_the_libraries_of_the_manifest() -> None:
    content = skops.io.dumps({"path": Path("x"), "trap": os.path.join})
    libraries = {"scikit-learn": version("scikit-learn")}

    with pytest.raises(StartupError, match="holds types of other packages"):
        load_estimator("model.skops", content, libraries, allow_pickle=True)


@pytest.mark.parametrize("name", ["model.skops", "model.joblib"])
def test_an_estimator_of_a_library_that_is_not_installed_is_refused_with_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = XGBClassifier(n_estimators=1, n_jobs=1).fit([[0], [1]], [0, 1])
    content = skops.io.dumps(estimator)
    if name == "model.joblib":
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer)
        content = buffer.getvalue()
    for module in [module for module in sys.modules if module.partition(".")[0] == "xgboost"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "xgboost", None)

    with pytest.raises(StartupError, match=f"^{name} needs the package xgboost: install it$"):
        load_estimator(name, content, {"xgboost-cpu": version("xgboost-cpu")}, allow_pickle=True)


def test_an_estimator_of_another_version_of_scikit_learn_is_refused_with_both_versions(
    copy: Path,
) -> None:
    def older(manifest: dict[str, Any]) -> None:
        manifest["runtime"] = "sklearn"
        manifest["libraries"]["scikit-learn"] = "1.0"

    change(copy, older)

    with pytest.raises(StartupError, match=r"fitted with scikit-learn 1\.0, this machine has"):
        load_artifact(copy)


def test_the_runtime_reports_to_nobody(artifact_dir: Path) -> None:
    code = f"""
import os, pathlib
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
from shared.records.artifact import load_artifact
load_artifact(pathlib.Path({str(artifact_dir)!r}))
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout.strip() == "1"
