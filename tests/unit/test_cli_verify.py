"""`heart-scorer verify` and `compare` on files: what counts as a difference."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.home import ROOT
from cli.verify import compare_rows, read_oracle
from shared.records.artifact import read_manifest
from shared.records.errors import StartupError
from tests.builders import a_csv, a_patient, json_lines
from tests.unit import test_training_frames
from training.train import train

SAMPLE = ROOT / "samples/patients.csv"


def call(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def changed(artifact_dir: Path, target: Path, **changes: object) -> Path:
    """Another artifact: this one with another manifest."""
    shutil.copytree(artifact_dir, target)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(manifest | changes))
    return target


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "csv.gz"])
def test_serving_and_scikit_learn_agree_on_each_format(
    suffix: str, artifact_dir: Path, tmp_path: Path
) -> None:
    patients = [a_patient(), a_patient(chol=None), a_patient(age=300)]
    content = {
        "csv": a_csv(*patients),
        "json": json.dumps(patients).encode(),
        "jsonl": json_lines(*patients),
        "csv.gz": gzip.compress(a_csv(*patients)),
    }
    file = tmp_path / f"patients.{suffix}"
    file.write_bytes(content[suffix])

    code, text, _ = call("verify", file, "--model-dir", artifact_dir)

    assert code == 0
    first, second = text.splitlines()
    assert first.startswith("3 rows, 0 differ, largest difference ")
    assert second.startswith("on the values as given (float64): 0 rows differ by more than 0.0001")


def test_the_comparison_comes_as_json(artifact_dir: Path) -> None:
    code, text, _ = call("verify", SAMPLE, "--model-dir", artifact_dir, "--json")

    document = json.loads(text)
    assert code == 0
    assert (document["rows"], document["different"], document["first"]) == (13, 0, [])
    assert 0 <= document["largest"] < 1e-6


def test_an_estimator_that_was_changed_is_refused(artifact_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(artifact_dir, tmp_path / "other")
    with (other / "model.skops").open("ab") as file:
        file.write(b"x")

    code, _, said = call("verify", SAMPLE, "--model-dir", other)

    assert code == 2
    assert "model.skops has SHA-256" in said


@pytest.mark.parametrize("command", ["verify", "check", "compare"])
def test_every_command_honours_the_pin(
    command: str, artifact_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORER_MODEL_SHA256", "0" * 64)
    words: dict[str, tuple[str | Path, ...]] = {
        "verify": ("verify", SAMPLE, "--model-dir", artifact_dir),
        "check": ("check", SAMPLE, "--model-dir", artifact_dir),
        "compare": ("compare", artifact_dir, artifact_dir, SAMPLE),
    }

    code, _, said = call(*words[command])

    assert code == 2
    assert "SCORER_MODEL_SHA256 asks for 000" in said


def test_an_artifact_without_its_estimator_is_refused(artifact_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(artifact_dir, tmp_path / "other")
    (other / "model.skops").unlink()

    code, _, said = call("verify", SAMPLE, "--model-dir", other)

    assert code == 2
    assert said.startswith(f"no model.skops in {other}")


@pytest.fixture(scope="module")
def of_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of an estimator of DataFrames."""
    directory = tmp_path_factory.mktemp("frames") / "model"
    train(test_training_frames.MODEL, directory, progress=lambda _: None)
    return directory


@pytest.mark.slow
def test_an_estimator_of_dataframes_is_compared_with_what_it_serves(
    of_frames: Path, tmp_path: Path
) -> None:
    file = tmp_path / "drives.csv"
    file.write_text("speed,road\n100,dry\n100,other\n155.3,wet\n90,\n999,dry\n")

    code, text, said = call("verify", file, "--model-dir", of_frames)

    assert (code, said) == (0, "")
    assert text.startswith("5 rows, 0 differ, largest difference ")


@pytest.mark.slow
def test_an_estimator_of_dataframes_needs_pandas(
    of_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "drives.csv"
    file.write_text("speed,road\n100,dry\n")
    monkeypatch.setitem(sys.modules, "pandas", None)

    code, out, said = call("verify", file, "--model-dir", of_frames)

    assert (code, out) == (2, "")
    assert said == "an estimator of DataFrames needs the package pandas: install it\n"


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("skops", "model.skops needs the package skops: install it\n"),
        ("onnxruntime", "runtime onnx needs onnxruntime: install it\n"),
    ],
)
def test_a_package_that_is_missing_is_named(
    package: str, sentence: str, artifact_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    code, out, said = call("verify", SAMPLE, "--model-dir", artifact_dir)

    assert (code, out, said) == (2, "", sentence)


def test_a_model_that_computes_the_same_is_the_same_model(
    artifact_dir: Path, tmp_path: Path
) -> None:
    other = changed(artifact_dir, tmp_path / "other", libraries={"onnx": "0.1"})
    manifest, sha256 = read_manifest(artifact_dir)
    scored_by = {
        "version": manifest.version,
        "sha256": sha256,
        "served_sha256": manifest.served_sha256,
    }

    assert read_oracle(artifact_dir, scored_by)
    assert read_oracle(other, scored_by)
    with pytest.raises(StartupError, match="scored by another model"):
        read_oracle(other, scored_by | {"served_sha256": "0" * 64})


def test_a_file_that_cannot_be_read_is_refused(artifact_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "patients.csv"
    file.write_text("age,chol\n54,200\n")

    verified = call("verify", file, "--model-dir", artifact_dir)
    compared = call("compare", artifact_dir, artifact_dir, file)

    for code, out, said in (verified, compared):
        assert (code, out) == (3, "")
        assert "patients.csv: refused: " in said


@pytest.mark.parametrize(
    ("found", "expected", "different"),
    [
        ([(1, 0.5), (2, None)], [(1, 0.5), (2, None)], 0),
        ([(1, 0.5)], [(1, 0.5 + 9e-7)], 0),
        ([(1, 0.5)], [(1, 0.5 + 2e-6)], 1),
        ([(1, None)], [(1, 0.5)], 1),
        ([(1, 0.5)], [(1, None)], 1),
        ([(1, 0.5)], [(1, 0.5), (2, 0.5)], 1),
        ([(1, 0.5), (2, 0.5)], [(1, 0.5)], 1),
        ([(1, 0.5), (2, None)], [(1, 0.5)], 1),
        ([(1, 0.5), (3, 0.5)], [(1, 0.5), (2, 0.5)], 1),
    ],
)
def test_rows_differ_by_score_by_having_one_or_by_number(
    found: list[tuple[int, float | None]],
    expected: list[tuple[int, float | None]],
    different: int,
) -> None:
    rows = [(row, numbers(p), numbers(p)) for row, p in expected]

    comparison = compare_rows([(row, numbers(p)) for row, p in found], rows, 1e-4)

    assert comparison.different == different
    assert comparison.failed == (different > 0)


def numbers(probability: float | None) -> tuple[float, ...] | None:
    """A row's answer as it is compared."""
    return None if probability is None else (probability,)


def test_a_row_differs_by_what_rounding_the_values_does_to_it() -> None:
    half = (0.5,)
    rows = [(1, half, half), (2, half, (0.5 + 9e-5,)), (3, half, (0.8,)), (4, None, None)]

    comparison = compare_rows([(1, half), (2, half), (3, half), (4, None)], rows, 1e-4)

    assert comparison.different == 0
    assert comparison.failed
    assert "1 rows differ by more than 0.0001, largest difference 0.3" in str(comparison)


def test_rows_that_differ_are_shown_up_to_twenty() -> None:
    expected = [(n, None, None) for n in range(50)]

    comparison = compare_rows([(n, (0.5,)) for n in range(50)], expected, 1e-4)

    assert comparison.different == 50
    assert len(comparison.first) == 20
    assert str(comparison).startswith("row 0: 0.5, scored again rejected\n")


def test_a_model_compared_with_itself_moves_nothing(artifact_dir: Path) -> None:
    code, text, _ = call("compare", artifact_dir, artifact_dir, SAMPLE, "--json")

    document = json.loads(text)
    assert code == 0
    assert (document["rows"], document["scored_by_both"], document["moved"]) == (13, 12, 0)
    assert (document["crossed_up"], document["crossed_down"]) == (0, 0)


def test_a_comparison_is_four_lines_for_people(artifact_dir: Path) -> None:
    code, text, said = call("compare", artifact_dir, artifact_dir, SAMPLE)

    assert (code, said) == (0, "")
    assert [line.split()[0] for line in text.splitlines()] == ["old", "rows", "moved", "crossed"]
    assert "\nrows     13, scored by both 12\n" in text
    assert text.endswith("\ncrossed  0 up, 0 down\n")


def test_a_file_without_a_row_that_both_score_moves_nothing(
    artifact_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "patients.csv"
    file.write_bytes(a_csv(a_patient(age=300)))

    document = json.loads(call("compare", artifact_dir, artifact_dir, file, "--json")[1])

    assert (document["rows"], document["scored_by_both"]) == (1, 0)
    assert (document["moved"], document["largest_move"]) == (0, 0)


def test_patients_who_cross_the_threshold_are_counted(artifact_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "patients.csv"
    file.write_bytes(a_csv(a_patient(age=45, sex=0), a_patient(age=65, cp=3, exang=1, ca=3)))
    strict = changed(artifact_dir, tmp_path / "strict", threshold=0.001)

    up = json.loads(call("compare", artifact_dir, strict, file, "--json")[1])
    down = json.loads(call("compare", strict, artifact_dir, file, "--json")[1])

    assert (up["crossed_up"], up["crossed_down"]) == (1, 0)
    assert (down["crossed_up"], down["crossed_down"]) == (0, 1)


def test_rows_that_only_one_model_accepts_are_counted(artifact_dir: Path, tmp_path: Path) -> None:
    fields = json.loads((artifact_dir / "manifest.json").read_text())["fields"]
    for field in fields["fields"]:
        if field["name"] == "age":
            field["accept"] = [18, 60]
    narrow = changed(artifact_dir, tmp_path / "narrow", fields=fields, golden=golden(artifact_dir))
    file = tmp_path / "patients.csv"
    file.write_bytes(a_csv(a_patient(age=50), a_patient(age=70)))

    document = json.loads(call("compare", artifact_dir, narrow, file, "--json")[1])

    assert (document["only_old"], document["only_new"]) == (1, 0)


def golden(artifact_dir: Path) -> list[dict[str, object]]:
    """The golden records of those up to 60."""
    records = json.loads((artifact_dir / "manifest.json").read_text())["golden"]
    return [record for record in records if record["record"]["age"] <= 60]


def test_a_directory_without_a_model_is_a_usage_error(artifact_dir: Path, tmp_path: Path) -> None:
    code, _, said = call("compare", artifact_dir, tmp_path, SAMPLE)

    assert code == 2
    assert "no model in" in said
