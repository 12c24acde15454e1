"""`heart-scorer check`: what the worker would reject, before anything is sent."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.home import ROOT
from shared.files import advice
from shared.settings import WorkerSettings
from tests.builders import a_csv, a_patient, json_lines, score_file
from tests.faults.patients import parquet, table

SAMPLE = ROOT / "samples/patients.csv"
SECRET = 41.7391
BAD = [
    a_patient(chol=5.2),
    a_patient(age=SECRET * 10),
    a_patient(sex="unknowable"),
    a_patient(cp=9),
    a_patient(trestbps="high"),
    a_patient(age=None),
    a_patient(age=300, chol="x"),
]
"""Each has a fault of another kind."""


def check(file: Path, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["check", str(file), *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def found(file: Path, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(check(file, "--json", *words)[1])
    return document


@pytest.fixture(autouse=True)
def _trained(artifact_dir: Path) -> None:
    """There is a model."""


def test_the_sample_has_one_bad_row_and_a_hint() -> None:
    code, text, _ = check(SAMPLE)

    assert code == 3
    assert "rows     13 total, 12 accepted, 1 rejected" in text
    assert "row 9: chol must be from 50 to 700 mg/dl (looks like mmol/l" in text


def test_a_good_file_exits_0(tmp_path: Path) -> None:
    file = tmp_path / "good.csv"
    file.write_bytes(a_csv(a_patient(), a_patient(age=60)))

    assert check(file) == (0, "rows     2 total, 2 accepted, 0 rejected\n", "")


def test_columns_that_are_not_fields_and_fields_without_a_column_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("age,sex,ward\n54,1,north\n")

    document = found(file)

    assert document["ignored_columns"] == ["ward"]
    assert "chol" in document["absent_fields"]
    assert "ignored  columns ward\n" in check(file)[1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.csv", a_csv(*BAD)),
        ("bad.json", json.dumps(BAD).encode()),
        ("bad.jsonl", json_lines(*BAD)),
        ("bad.ndjson", json_lines(*BAD)),
        ("bad.csv.gz", gzip.compress(a_csv(*BAD), mtime=0)),
    ],
)
def test_the_counts_are_those_of_the_worker(name: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    kind: Any = {"ndjson": "jsonl"}.get(name.split(".")[1], name.split(".")[1])
    worker = score_file(kind, plain).counts

    document = found(file)

    assert document["rows"]["total"] == worker.rows == len(BAD)
    assert document["rows"]["rejected"] == worker.rejected == len(BAD)
    assert document["rejections"] == worker.codes
    assert set(document["examples"]) == set(worker.codes)


def test_reasons_name_row_field_and_limit_and_never_the_value(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(a_csv(*BAD))

    _, text, said = check(file)

    assert "row 2: age must be from" in text
    for value in ("417.391", "5.2", "unknowable", "high"):
        assert value not in text + said


def test_a_row_with_two_faults_counts_under_both(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(json_lines(a_patient(age=300, chol="x")))

    examples = found(file)["examples"]

    assert {code: [e["row"] for e in kept] for code, kept in examples.items()} == {
        "out_of_range": [1],
        "not_a_number": [1],
    }


def test_as_many_rows_of_each_kind_are_shown_as_requested(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(a_csv(*[a_patient(age=300)] * 9))

    assert [e["row"] for e in found(file)["examples"]["out_of_range"]] == [1, 2, 3]
    assert len(found(file, "--first", "5")["examples"]["out_of_range"]) == 5


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.csv", b"age,sex,cholesterol\n54,1,200\n", "did you mean"),
        ("x.csv", b"age,chol\n54,200\n", "no column `sex`"),
        ("x.csv", b"", "empty"),
        ("x.csv", b"age,sex\n54,\x9d\n", "not UTF-8"),
        ("x.json", b'{"age": 54', ""),
        ("x.csv.gz", b"no gzip", "gzip"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_says_why(
    name: str, content: bytes, why: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    code, out, said = check(file)

    assert (code, out) == (3, "")
    assert said.startswith(f"{name}: refused: ")
    assert why in said
    assert found(file)["status"] == "refused"


def test_a_name_that_tells_no_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "patients.xls"
    file.write_bytes(b"PK")

    code, _, said = check(file)

    assert code == 3
    assert "must end in one of .csv" in said


def test_without_a_model_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    code, _, said = check(SAMPLE, "--model-dir", str(tmp_path))

    assert code == 2
    assert "run `heart-scorer train`" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b.csv", ""),
        ("b.csv.gz", "gzip cannot be cut"),
        ("b.json", "a JSON array cannot be cut"),
        ("b.parquet", "ask for a CSV file"),
    ],
)
def test_a_large_file_that_workers_cannot_share_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(advice, "LARGE", 10)
    file = tmp_path / name
    if name.endswith(".parquet"):
        content = parquet(table(3))
    else:
        content = json.dumps([a_patient()]).encode() if ".json" in name else b"age,sex\n63,1\n"
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    warnings = [text for text in found(file)["warnings"] if "one worker" in text]

    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_large_is_what_workers_share_by_default() -> None:
    assert WorkerSettings.model_fields["split_bytes"].default == advice.LARGE
