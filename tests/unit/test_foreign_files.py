"""Files that people really send: each is scored rightly, or refused with its own reason.

Every case goes through `heart-scorer check` and through the worker, and what the API then shows is
compared with both: all three must say the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from api.schemas import BatchBody
from cli.__main__ import app
from shared.batches.message import (
    Batch,
    Envelope,
    EnvelopeInput,
    EnvelopeOptions,
    parse_message,
)
from shared.batches.status import read_status
from shared.files.base import Limits
from shared.files.formats import format_of
from shared.files.options import Options
from shared.records.artifact import Artifact
from shared.records.coding import count_categories, distribution_warnings
from shared.records.errors import StorageUnavailable
from shared.records.schema import FieldTable
from shared.testing import run_virtually
from tests.api_client import FakeStorage, a_client
from tests.builders import score_file
from tests.faulty import Hook, Moment
from tests.world import World, nothing
from training.heart.dataset import DATA, read_heart
from training.heart.fields import TABLE
from training.reference import with_reference

NO_OPTIONS = Options()


@dataclass
class Told:
    """The sender's error text for a file."""

    status: str
    reason: str = ""
    rows: int = 0
    rejected: int = 0
    warnings: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


@cache
def referenced() -> FieldTable:
    """The field table as training writes it."""
    return with_reference(TABLE, read_heart().rows)


@pytest.fixture
def trained(artifact: Artifact) -> Artifact:
    """The model with the reference of its training data, whenever it was trained."""
    manifest = artifact.manifest.model_copy(update={"fields": referenced()})
    return Artifact(manifest, artifact.sha256, artifact.model)


def told_by_worker(artifact: Artifact, name: str, content: bytes, options: Options) -> Told:
    """Let a worker take the file; compare its summary with what the API shows."""

    async def scene() -> tuple[dict[str, Any], dict[str, Any]]:
        world = World(artifact)
        etag = world.blobs.put("uploads", name, content)
        envelope = Envelope(
            batch_id="b-1",
            input=EnvelopeInput(container="uploads", blob=name, etag=etag),
            options=EnvelopeOptions.of(options),
        )
        await world.queue.send(envelope.text())
        await world.emptied()
        summary = world.summary("b-1")
        assert len(world.poisoned()) == (summary["status"] == "failed")
        visible = [name for name in world.blobs.names("scores") if "/scores." in name]
        assert len(visible) == (summary["status"] == "succeeded")
        status = await read_status(world.blobs, "b-1")
        assert status is not None
        return summary, BatchBody.of(status).model_dump(exclude_unset=True)

    summary, state = run_virtually(scene())
    for member in ("reason", "warnings", "rejections"):
        assert state.get(member, None) == summary.get(member, None)
    rows = summary["rows"]
    return Told(
        summary["status"],
        summary.get("reason", ""),
        rows["total"],
        rows["rejected"],
        summary.get("warnings", []),
        summary.get("ignored_columns", []),
    )


def told_by_check(
    artifact: Artifact, name: str, content: bytes, options: Options, folder: Path
) -> Told:
    (folder / "manifest.json").write_text(artifact.manifest.model_dump_json())
    file = folder / name
    file.write_bytes(content)
    flags = ["--json", "--model-dir", str(folder)]
    flags += [f"--rename={old}={new}" for old, new in options.rename.items()]
    flags += ["--coding-checked"] if options.coding_checked else []
    done = CliRunner().invoke(app, ["check", str(file), *flags])
    found = json.loads(done.stdout)
    if found["status"] == "refused":
        assert done.exit_code == 3
        return Told("failed", found["reason"])
    rows = found["rows"]
    assert done.exit_code == (3 if rows["rejected"] or not rows["total"] else 0)
    return Told(
        "succeeded",
        "",
        rows["total"],
        rows["rejected"],
        found["warnings"],
        found["ignored_columns"],
    )


def told(
    artifact: Artifact,
    folder: Path,
    name: str,
    content: bytes | str,
    options: Options = NO_OPTIONS,
) -> Told:
    """The text that worker, API and `check` give for a file."""
    content = content.encode() if isinstance(content, str) else content
    worker = told_by_worker(artifact, name, content, options)
    assert told_by_check(artifact, name, content, options, folder) == worker
    return worker


# Another coding


def the_data() -> pd.DataFrame:
    return pd.read_csv(DATA).drop(columns="condition")


def heart_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """The coding of the heart.csv files."""
    return frame.assign(
        cp=3 - frame.cp,
        slope=2 - frame.slope,
        thal=frame.thal.map({0: 2, 1: 1, 2: 3}).fillna(0),
        ca=frame.ca.fillna(4),
    )


def uci(frame: pd.DataFrame) -> pd.DataFrame:
    """UCI's own coding."""
    thal = frame.thal.map({0: 3, 1: 6, 2: 7})
    return frame.assign(cp=frame.cp + 1, slope=frame.slope + 1, thal=thal)


def as_csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, float_format="%g").encode()


def as_json(frame: pd.DataFrame) -> bytes:
    return frame.to_json(orient="records").encode()


PROVED = {
    "heart.csv without its label": (heart_csv(the_data()), ["thal", "heart.csv"]),
    "UCI's": (uci(the_data()), ["cp", "slope", "thal", "UCI"]),
    "UCI's of a first visit": (uci(the_data()).drop(columns=["thal", "ca"]), ["cp", "UCI"]),
    "UCI's with words for thal": (
        uci(the_data()).assign(thal=the_data().thal.map({0: "normal", 1: "fixed"})),
        ["cp", "slope"],
    ),
    "-9 for missing": (the_data().assign(chol=-9), ["chol", "-9 means missing"]),
    "one row in a hundred": (
        the_data().head(100).assign(cp=[4, *the_data().cp[1:100]]),
        ["1 of 100 rows", "cp"],
    ),
}


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("name", PROVED)
def test_a_file_proved_to_use_another_coding_is_not_scored(
    name: str, suffix: str, trained: Artifact, tmp_path: Path
) -> None:
    frame, words = PROVED[name]
    content = as_csv(frame) if suffix == ".csv" else as_json(frame)

    found = told(trained, tmp_path, f"file{suffix}", content)

    assert found.status == "failed"
    assert found.reason.startswith("another coding: ")
    assert f"of {len(frame)} rows" in found.reason
    assert "coding_checked (--coding-checked)" in found.reason
    for word in words:
        assert word in found.reason


def test_fewer_than_one_row_in_a_hundred_are_rejected_and_reported(
    trained: Artifact, tmp_path: Path
) -> None:
    frame = the_data()
    frame.loc[7, "cp"] = 4

    found = told(trained, tmp_path, "file.csv", as_csv(frame))

    assert (found.status, found.rows, found.rejected) == ("succeeded", 303, 1)
    [warning] = found.warnings
    assert warning.startswith("1 of 303 rows hold values that only another coding")
    assert "cp" in warning


def test_a_sender_can_turn_off_the_guard(trained: Artifact, tmp_path: Path) -> None:
    checked = Options(coding_checked=True)

    found = told(trained, tmp_path, "file.csv", as_csv(uci(the_data())), checked)

    assert found.status == "succeeded"
    assert 0 < found.rejected < 303


def test_a_row_with_another_fault_proves_nothing(trained: Artifact, tmp_path: Path) -> None:
    content = "age,sex,cp,chol\n54,1,0,250\n41,0,3,230\n95000,2,4,48000\n"

    found = told(trained, tmp_path, "totals.csv", content)

    assert (found.status, found.rejected, found.warnings) == ("succeeded", 1, [])


@pytest.mark.parametrize("field_name", ["cp", "slope"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_coding_that_no_row_proves_is_warned_of_by_its_distribution(
    field_name: str, suffix: str, trained: Artifact, tmp_path: Path
) -> None:
    frame = heart_csv(the_data()).drop(columns=["thal", "ca"]).head(150)
    content = {
        ".csv": as_csv(frame),
        ".json": as_json(frame),
        ".jsonl": frame.to_json(orient="records", lines=True).encode(),
    }[suffix]

    found = told(trained, tmp_path, f"file{suffix}", content)

    assert (found.status, found.rejected) == ("succeeded", 0)
    [warning] = [text for text in found.warnings if text.startswith(f"{field_name} is")]
    assert "distributed unlike the training data" in warning
    assert "here" in warning
    assert "in training" in warning
    checked = told(trained, tmp_path, f"file{suffix}", content, Options(coding_checked=True))
    assert checked.warnings == []


def test_the_training_data_themselves_and_small_files_raise_no_warning(
    trained: Artifact, tmp_path: Path
) -> None:
    assert told(trained, tmp_path, "file.csv", as_csv(the_data())).warnings == []
    reversed_few = heart_csv(the_data()).drop(columns=["thal", "ca"]).head(49)
    assert told(trained, tmp_path, "few.csv", as_csv(reversed_few)).warnings == []


def test_an_old_model_says_that_it_cannot_compare(artifact: Artifact, tmp_path: Path) -> None:
    manifest = artifact.manifest.model_copy(update={"fields": TABLE})
    old = Artifact(manifest, artifact.sha256, artifact.model)

    [warning] = told(old, tmp_path, "file.csv", as_csv(the_data())).warnings

    assert "train it again" in warning


@pytest.mark.parametrize(("rows", "alarms"), [(100, 5), (50, 50)])
def test_honest_batches_almost_never_warn_and_reversed_codes_do(rows: int, alarms: int) -> None:
    """Of 10,000 batches drawn from the training data: at most `alarms` false ones."""
    table = referenced()
    values = np.full((len(table.fields), 303), np.nan)
    values[list(table.used)] = read_heart().rows.T
    rng = np.random.default_rng(7)
    found = {"honest": 0, "cp": 0, "slope": 0}

    for _ in range(10_000 // 10):
        batch = values[:, rng.integers(303, size=rows)]
        honest = count_categories(batch, table)
        for name in ("cp", "slope"):
            swapped = honest | {name: honest[name][::-1]}
            warnings = distribution_warnings(swapped, table)
            found[name] += any(text.startswith(f"{name} is") for text in warnings)
    for _ in range(10_000):
        batch = values[:, rng.integers(303, size=rows)]
        found["honest"] += bool(distribution_warnings(count_categories(batch, table), table))

    assert found["honest"] <= alarms
    assert found["cp"] == 1000
    assert found["slope"] >= 990


def test_a_resumed_batch_has_the_warnings_of_an_undisturbed_one(trained: Artifact) -> None:
    content = as_csv(heart_csv(the_data()).drop(columns=["thal", "ca"]))
    limits = Limits(rows=60)
    stages = 0

    async def fails_once(moment: Moment) -> None:
        nonlocal stages
        if moment.call == "stage" and moment.when == "before":
            stages += 1
            if stages == 4:
                raise StorageUnavailable("busy")

    async def scene(hook: Hook) -> dict[str, Any]:
        world = World(trained)
        await world.submit("b-1", content)
        await world.emptied(world.worker(hook, limits=limits))
        return world.summary("b-1")

    undisturbed = run_virtually(scene(nothing))
    resumed = run_virtually(scene(fails_once))

    assert (undisturbed["deliveries"], resumed["deliveries"]) == (1, 2)
    assert resumed["warnings"] == undisturbed["warnings"] != []


# The API


@pytest.fixture
def client(trained: Artifact) -> TestClient:
    return a_client(trained)


def test_many_records_that_prove_another_coding_are_refused_together(client: TestClient) -> None:
    items = json.loads(as_json(uci(the_data()).head(100)))

    refused = client.post("/predict/many", json=items)
    believed = client.post("/predict/many?coding_checked=true", json=items)

    assert refused.status_code == 422
    assert refused.json()["code"] == "another_coding"
    assert "of 100 rows" in refused.json()["detail"]
    assert believed.status_code == 200


def test_many_records_unlike_the_training_data_come_with_a_warning(client: TestClient) -> None:
    frame = heart_csv(the_data()).drop(columns=["thal", "ca"])

    warnings = client.post("/predict/many", json=json.loads(as_json(frame))).json()["warnings"]

    assert [text.split()[0] for text in warnings] == ["cp", "slope"]
    assert "warnings" not in client.post("/predict/many", json=[{"age": 54, "sex": 1}]).json()


def test_a_key_of_another_coding_has_the_same_reason_everywhere(client: TestClient) -> None:
    record = {"age": 54, "sex": 1, "target": 1}
    reason = TABLE.other_columns["target"]

    one = client.post("/predict", json=record)
    many = client.post("/predict/many", json=[record])
    tensors = client.post(
        "/v2/models/heart-cleveland/infer",
        json={
            "inputs": [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
                for name, value in record.items()
            ]
        },
    )

    assert [answer.status_code for answer in (one, many, tensors)] == [422, 422, 422]
    assert all(reason in answer.text for answer in (one, many, tensors))


def test_tensors_in_another_coding_are_refused_as_such(client: TestClient) -> None:
    answer = client.post(
        "/v2/models/heart-cleveland/infer",
        json={
            "inputs": [
                {"name": name, "shape": [2], "datatype": "FP64", "data": data}
                for name, data in {"age": [54, 55], "sex": [1, 0], "cp": [1, 4]}.items()
            ]
        },
    )

    assert answer.status_code == 422
    assert "another coding: 1 of 2 rows" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"data":[{"age":54,"sex":1}]}', "send the array itself"),
        (json.dumps('{"age":54,"sex":1}'), "encoded twice"),
        ('{"age":54,"sex":1,"patientId":"a"}', "did you mean `patient_id`?"),
    ],
)
def test_predict_names_the_thing_that_was_sent_instead_of_a_record(
    client: TestClient, body: str, words: str
) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_a_byte_order_mark_before_a_request_is_skipped(client: TestClient) -> None:
    body = b"\xef\xbb\xbf" + b'{"age":54,"sex":1}'

    assert client.post("/predict", content=body).status_code == 200


@pytest.mark.parametrize(
    ("path", "media_type", "flag"),
    [
        ("/predict", "multipart/form-data; boundary=x", "curl -F"),
        ("/predict", "application/x-www-form-urlencoded", "curl -d"),
        ("/batches", "application/x-www-form-urlencoded", "curl -d"),
    ],
)
def test_a_form_is_told_how_to_send_the_file(
    client: TestClient, path: str, media_type: str, flag: str
) -> None:
    answer = client.post(path, content=b"x", headers={"Content-Type": media_type})

    assert answer.status_code == 415
    assert flag in answer.json()["detail"]
    assert "--data-binary @FILE" in answer.json()["detail"]


def test_options_of_an_upload_reach_the_worker(trained: Artifact) -> None:
    storage = FakeStorage()
    client = a_client(trained, storage.connect)
    query = "/batches?rename=cp (0-3)=cp&rename=Gender=sex&coding_checked=true"

    answer = client.post(query, content=b"x", headers={"Content-Type": "text/csv"})
    refused = client.post("/batches?rename=cp", content=b"x", headers={"Content-Type": "text/csv"})

    [body] = storage.queue.bodies()
    batch = parse_message(body, "m-1", {"uploads"})
    assert answer.status_code == 202
    assert isinstance(batch, Batch)
    assert batch.options == Options(rename={"cp (0-3)": "cp", "Gender": "sex"}, coding_checked=True)
    assert refused.status_code == 422
    assert "NAME=FIELD" in refused.json()["detail"]


# Columns, headers and records

REFUSED: dict[str, tuple[str, bytes | str, list[str]]] = {
    "a label of another coding": (
        "a.csv",
        "age,sex,cp,output\n54,1,3,0\n",
        ["column `output`", "compare the codes"],
    ),
    "a label in JSON": (
        "a.json",
        '[{"age":54,"sex":1},{"age":54,"sex":1,"target":1}]',
        ["key `target`", "compare the codes"],
    ),
    "names of heart.csv": (
        "a.csv",
        "age,sex,cp,trtbps,caa\n54,1,3,130,0\n",
        ["columns `trtbps`, `caa`", "heart.csv"],
    ),
    "joined names, all in one answer": (
        "a.csv",
        "patientid;age;gender;chestpain;restingBP;serumcholestrol;exerciseangia;noofmajorvessels\n"
        "1;54;1;3;130;250;0;1\n",
        [
            "--rename patientid=patient_id",
            "--rename gender=sex",
            "--rename chestpain=cp",
            "--rename restingBP=trestbps",
            "--rename serumcholestrol=chol",
            "--rename exerciseangia=exang",
            "--rename noofmajorvessels=ca",
            '"rename": {"patientid": "patient_id", "gender": "sex"',
        ],
    ),
    "units and ranges in names": (
        "a.csv",
        "age (years),sex,cp (0-3),ca [0-3],chol (mg/dl)\n54,1,3,0,250\n",
        [
            "no column `age`",
            "'cp (0-3)=cp'",
            "'ca [0-3]=ca'",
            "'chol (mg/dl)=chol'",
            "'age (years)=age'",
        ],
    ),
    "words in names": (
        "a.csv",
        "Age,Sex,Chest pain type,Number of vessels fluro,EKG results,Max HR\n54,1,3,0,0,150\n",
        ["'Chest pain type=cp'", "vessels fluro=ca'", "'EKG results=restecg'", "'Max HR=thalach'"],
    ),
    "a key that is nearly a field": (
        "a.json",
        '[{"age":54,"sex":1,"Cholesterol":250,"patientId":"a"}]',
        ["--rename Cholesterol=chol", "--rename patientId=patient_id"],
    ),
    "Patient ID": ("a.csv", "Patient ID,age,sex\nA1,54,1\n", ["'Patient ID=patient_id'"]),
    "no header": ("a.csv", "54,1,3,130\n55,0,2,140\n", ["is the header line missing?"]),
    "no header, with ids": ("a.csv", "Smith,54,male\nJones,55,female\n", ["header line missing"]),
    "CR alone": ("a.csv", "age,sex,chol\r54,1,250\r55,0,240\r", ["CR alone"]),
    "CR alone, another column last": ("a.csv", "age,sex,ward\r54,1,n\r55,0,s\r", ["CR alone"]),
    "lost line ends": ("a.csv", "age,sex,chol54,1,25055,0,240", ["line ends lost", "curl -d"]),
    "a title": ("a.csv", "Ward 7 report,,\n,,\nage,sex,chol\n54,1,250\n", ["line 3 looks like"]),
    "row names": (
        "a.csv",
        '"age","sex","chol"\n"1",54,1,250\n"2",55,0,240\n',
        ["every row has 4 cells and the header has 3", "row names"],
    ),
    "separators at the rows' end": (
        "a.csv",
        "age,sex,chol\n54,1,250,\n55,0,240,\n",
        ["every row has 4 cells", "ends with a separator"],
    ),
    "rows too short": ("a.csv", "age,sex,chol,cp\n54,1\n55,0\n", ["every row has 2 cells"]),
    "other separators": ("a.csv", "age sex chol\n54 1 250\n", ["separated by commas"]),
    "no header, words alone": (
        "a.csv",
        "male,asymptomatic\nfemale,flat\n",
        ["header line missing"],
    ),
    "names in brackets": (
        "a.csv",
        "[age],[sex],[chol]\n54,1,250\n",
        ["no column `age`, `sex`", "'[age]=age'", "'[chol]=chol'"],
    ),
    "JSON as CSV": ("a.csv", '[{"age":1301,"sex":1}]', ["name it .json"]),
    "a web page": ("a.csv", "<html><body>Sign in</body></html>", ["web page"]),
    "CSV as JSON": ("a.json", "age,sex\n54,1\n", ["name it .csv"]),
    "CSV as JSON lines": ("a.jsonl", "age,sex\n54,1\n", ["name it .csv"]),
    "arrays in lines": ("a.jsonl", "[54,1]\n[55,0]\n", ["the lines are arrays"]),
    "Python's notation": ("a.json", "[{'age': 54}]", ["json.dumps"]),
    "Python's notation in lines": ("a.jsonl", "{'age': 54}\n", ["json.dumps"]),
    "Excel": ("a.csv", b"PK\x03\x04\x14\x00\x06\x00", ["Excel workbook", ".xlsx"]),
    "old Excel": ("a.csv", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(30), ["(.xls)"]),
    "Parquet": ("a.json", b"PAR1\x15\x04\x15\x10PAR1", ["Parquet"]),
    "gzip": ("a.jsonl", b"\x1f\x8b\x08\x00" + bytes(20), ["gzip", ".gz"]),
    "Excel as gzip": ("a.csv.gz", b"PK\x03\x04\x14\x00\x06\x00", ["not gzip but an Excel"]),
    "wrapped in data": (
        "a.json",
        '{"data":[{"age":54,"sex":1},{"age":55,"sex":0}]}',
        ["one object with the key `data`, which holds an array: send the array itself"],
    ),
    "wrapped in body": ("a.json", '{"body":{"age":54,"sex":1}}', ["the key `body`", "record"]),
    "pandas' columns": (
        "a.json",
        '{"age":{"0":54,"1":55},"sex":{"0":1,"1":0}}',
        ['orient="records"'],
    ),
    "pandas' index": ("a.json", '{"0":{"age":54,"sex":1},"1":{"age":5,"sex":1}}', ["each key"]),
    "pandas' split": ("a.json", '{"columns":["age","sex"],"data":[[54,1]]}', ["none of whose"]),
    "pandas' values": ("a.json", "[[54,1],[55,0]]", ["this is an array"]),
    "R's lists": ("a.json", '[{"age":[54],"sex":[1]}]', ["auto_unbox"]),
    "a file in a wrapper": (
        "a.json",
        '{"$content-type":"text/csv","$content":"YWdlLHNleAo="}',
        ["`$content`"],
    ),
    "JSON encoded twice": ("a.json", json.dumps('{"age":54,"sex":1}'), ["encoded twice"]),
    "JSON lines encoded twice": ("a.jsonl", json.dumps('{"age":54}') + "\n", ["encoded twice"]),
    "an array as lines": ("a.jsonl", '[{"age":54,"sex":1}]', ["name the file .json"]),
    "an array printed over lines": (
        "a.jsonl",
        json.dumps([{"age": 54, "sex": 1}], indent=1),
        ["several lines", "name the file .json"],
    ),
    "an object printed over lines": (
        "a.jsonl",
        json.dumps({"age": 54, "sex": 1}, indent=1),
        ["several lines"],
    ),
    "commas after lines": ("a.jsonl", '{"age":54},\n{"age":55},\n', ["remove the commas"]),
    "lines without ends": ("a.jsonl", '{"age":54}{"age":55}', ["on one line", "curl -d"]),
    "lines as an array": ("a.json", '{"age":54}\n{"age":55}\n', [".jsonl"]),
}
SECRETS = ("Smith", "Jones", "A1", "YWdl", "1301", "n55")


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_means_something_else_is_refused_with_its_reason(
    name: str, trained: Artifact, tmp_path: Path
) -> None:
    file, content, words = REFUSED[name]

    found = told(trained, tmp_path, file, content)

    assert found.status == "failed"
    for word in words:
        assert word in found.reason
    assert not any(secret in found.reason for secret in SECRETS)


SCORED: dict[str, tuple[str, str, int]] = {
    "sep= in the first line": ("a.csv", "sep=;\nage;sex;oldpeak\n54;1;2,3\n", 0),
    "separators at the header's end": ("a.csv", "age,sex,chol,,,\n54,1,250\n", 0),
    "tabs and decimal commas": ("a.csv", "age\tsex\toldpeak\n54\t1\t2,3\n", 0),
    "tabs and a comma of thousands": ("a.csv", "age\tsex\toldpeak\n54\t1\t1,234\n", 1),
    "a comment first": ("a.csv", "# ward 7\nage,sex\n54,1\n", 0),
    "pipes": ("a.csv", "age|sex|chol\n54|1|250\n", 0),
    "tabs": ("a.csv", "age\tsex\tchol\n54\t1\t250\n", 0),
    "row names with a column": ("a.csv", '"","age","sex"\n"1",54,1\n', 0),
    "words": (
        "a.csv",
        "age,sex,cp,fbs,restecg,exang,slope,thal\n"
        "54,Male,typical angina,TRUE,lv hypertrophy,FALSE,downsloping,fixed defect\n"
        "54,M,non-anginal,True,ST-T abnormality,N,Up,reversable defect\n"
        "54,f,ATA,y,LVH,t,flat,Normal\n"
        "54,woman,Non-Anginal Pain,yes,normal,No,upsloping,reversible\n",
        0,
    ),
    "words for missing": (
        "a.csv",
        "age,sex,cp,chol,thal\n"
        + "".join(
            f"54,1,{word},{word},{word}\n"
            for word in ("NULL", "None", "N/A", "#N/A", "<NA>", "-", ".", "\\N", "na", "NaN", "?")
        ),
        0,
    ),
    "rows without content": ("a.csv", "age,sex,chol\n,,\n54,1,250\n,,\n", 0),
    "zero, which is a value": ("a.csv", "age,sex,chol\n54,1,250\n54,1,0\n", 1),
    "an id as a float": ("a.json", '[{"patient_id":1001.0,"age":54,"sex":1}]', 0),
    "booleans": ("a.jsonl", '{"age":54,"sex":1,"fbs":true,"exang":"Y"}\n', 0),
}


@pytest.mark.parametrize("name", SCORED)
def test_files_as_people_write_them_are_scored(
    name: str, trained: Artifact, tmp_path: Path
) -> None:
    file, content, rejected = SCORED[name]

    found = told(trained, tmp_path, file, content)

    assert found.status == "succeeded"
    assert found.rows == len([line for line in content.splitlines() if "54" in line])
    assert found.rejected == rejected


@pytest.mark.parametrize(("name", "content"), [("a.csv", "age,sex\n"), ("a.json", "[]")])
def test_a_file_without_rows_says_so(
    name: str, content: str, trained: Artifact, tmp_path: Path
) -> None:
    found = told(trained, tmp_path, name, content)

    assert (found.status, found.rows) == ("succeeded", 0)
    assert found.warnings == ["the file has no rows: nothing was scored"]


def test_ignored_columns_and_absent_fields_are_reported_together(
    trained: Artifact, tmp_path: Path
) -> None:
    content = "age,sex,ward,7,2020-01-01,id\n54,1,n,1,2,A1\n"

    found = told(trained, tmp_path, "a.csv", content)

    assert found.ignored == ["ward", "id"]
    assert found.warnings[0].startswith("4 columns are not fields and were ignored")
    assert "`chol`" in found.warnings[0]
    assert "--rename id=patient_id" in found.warnings[1]


# Messages


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"data":[{"age":54,"sex":1}]}', "send the array itself"),
        ('{"body":{"age":54,"sex":1}}', "send the record itself"),
        ('{"$content-type":"text/csv","$content":"YWdl"}', "send the file itself"),
        (json.dumps('{"age":54,"sex":1}'), "send the inner JSON itself"),
        ('{"age":54,"sex":1,"cp":4}', "another coding: 1 of 1 rows"),
    ],
)
def test_a_message_without_a_record_fails_and_is_kept(
    body: str, words: str, trained: Artifact
) -> None:
    async def scene() -> None:
        world = World(trained)
        message_id = await world.queue.send(body)
        await world.emptied()

        assert world.summary(message_id)["status"] == "failed"
        assert words in world.summary(message_id)["reason"]
        [copy] = world.poisoned()
        assert copy["body"] == body

    run_virtually(scene())


def test_a_record_from_a_function_is_scored(trained: Artifact) -> None:
    async def scene() -> None:
        world = World(trained)
        body = {"$AzureWebJobsParentId": "1", "age": 54, "sex": 1}
        message_id = await world.queue.send(json.dumps(body))
        await world.emptied()

        assert world.summary(message_id)["rows"]["scored"] == 1

    run_virtually(scene())


# Renaming


@pytest.mark.parametrize(
    ("name", "content", "rename"),
    [
        ("a.csv", "Age at visit,Gender,cp (0-3)\n54,1,3\n", {"cp (0-3)": "cp"}),
        ("a.json", '[{"Age at visit":54,"Gender":1,"cp (0-3)":3}]', {"cp (0-3)": "cp"}),
        ("a.jsonl", '{"Age at visit":54,"Gender":1,"cp (0-3)":3}\n', {"cp (0-3)": "cp"}),
    ],
)
def test_a_mapping_is_applied_as_given(
    name: str, content: str, rename: Mapping[str, str], trained: Artifact, tmp_path: Path
) -> None:
    options = Options(rename={"Age at visit": "age", "Gender": "sex", **rename})

    found = told(trained, tmp_path, name, content, options)

    assert (found.status, found.rows, found.rejected) == ("succeeded", 1, 0)


@pytest.mark.parametrize(
    ("rename", "reason"),
    [
        ({"ward": "sex", "Gender": "cp"}, "rename: "),
        ({"age": "sex"}, "appears twice"),
    ],
)
def test_a_mapping_that_does_not_fit_the_file_is_refused(
    rename: dict[str, str], reason: str, trained: Artifact, tmp_path: Path
) -> None:
    found = told(trained, tmp_path, "a.csv", "age,sex\n54,1\n", Options(rename=rename))

    assert found.status == "failed"
    assert reason in found.reason


def test_a_column_may_be_renamed_to_something_else(trained: Artifact, tmp_path: Path) -> None:
    options = Options(rename={"CA 19-9": "tumour marker"})

    found = told(trained, tmp_path, "a.csv", "age,sex,CA 19-9\n54,1,30\n", options)

    assert (found.status, found.rejected) == ("succeeded", 0)
    assert found.ignored == ["tumour marker"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"age,Gender\n54,1\n"), ("a.jsonl", b'{"age":54,"Gender":1}\n')],
)
def test_repeated_input_keeps_its_own_names(name: str, content: bytes) -> None:
    file_format, _ = format_of(name)
    assert file_format is not None
    options = Options(include_input=True, rename={"Gender": "sex"})

    output = score_file(file_format, content, options=options).content

    assert b"input_Gender" in output
    assert b"input_sex" not in output


def test_every_name_in_these_tests_tells_its_format() -> None:
    assert all(format_of(name)[0] for name, *_ in (*REFUSED.values(), *SCORED.values()))
