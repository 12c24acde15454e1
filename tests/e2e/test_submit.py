"""Batches submitted and followed by the command line, as a user would."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from cli.local import ROOT, Running
from shared.storage.azure import Storage
from tests.builders import a_csv, a_patient, json_lines
from tests.e2e.client import get
from tests.e2e.command import COMMAND, call, call_here, environment, on_terminal

SAMPLE = ROOT / "samples/patients.csv"
GOOD = a_csv(a_patient(), a_patient(age=60))
IDLE = "queue-without-worker"
"""Where batches stay queued."""


def a_name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.csv"
    file.write_bytes(GOOD)
    return file


@pytest.fixture
def mixed(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We are in a folder with `good.csv` and files that cannot be sent."""
    (good.parent / "patients.xls").write_bytes(b"PK")
    (good.parent / "empty.csv").touch()
    monkeypatch.chdir(good.parent)


@pytest.fixture
async def idle(storage: Storage, running: Running) -> str:
    await storage.queue(IDLE).create()
    return IDLE


def test_a_submitted_file_comes_back_scored_row_by_row(running: Running, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"

    done = call(
        running, "submit", str(SAMPLE), "--wait", "--include-input", "--output", str(output)
    )

    assert done.returncode == 0, done.stderr
    with SAMPLE.open(newline="") as sent, output.open(newline="") as scored:
        records, rows = list(csv.DictReader(sent)), list(csv.DictReader(scored))
    assert [row["patient_id"] for row in rows] == [r["patient_id"] for r in records]
    assert [row["row"] for row in rows] == [str(n) for n in range(1, 14)]
    assert [row["input_chol"] for row in rows] == [r["chol"] for r in records]
    rejected = [row for row in rows if row["error"]]
    assert [row["patient_id"] for row in rejected] == ["typing-error"]
    assert all(row["probability"] for row in rows if not row["error"])
    assert not list(tmp_path.glob("*.part"))


async def test_the_summary_comes_as_json_and_again_by_status_and_http(running: Running) -> None:
    name = a_name()

    done = await call_here(running, "submit", str(SAMPLE), "--wait", "--json", "--batch-id", name)
    again = await call_here(running, "status", name, "--json")
    code, body = await asyncio.to_thread(get, f"{running.api_url}/batches/{name}")

    summary = json.loads(done.stdout)
    assert summary["status"] == "succeeded"
    assert summary["rows"]["total"] == 13
    assert json.loads(again.stdout) == summary
    assert (code, json.loads(body)["status"]) == (200, "succeeded")


async def test_strict_waits_and_exits_3_when_a_row_was_rejected(
    running: Running, good: Path
) -> None:
    assert (await call_here(running, "submit", str(SAMPLE), "--strict")).returncode == 3
    assert (await call_here(running, "submit", str(good), "--strict")).returncode == 0


async def test_a_file_without_a_required_column_fails_and_says_why(
    running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "no-age.csv"
    file.write_text("sex,chol\nmale,233\n")

    words = ("submit", str(file), "--no-check", "--wait", "--batch-id", name := a_name())
    done = await call_here(running, *words)
    listed = await call_here(running, "status", "--failed", "--since", "1h", "--limit", "100")

    assert done.returncode == 1
    assert "status   failed" in done.stdout
    assert "`age`" in done.stdout
    [line] = [line for line in listed.stdout.splitlines()[1:] if name in line]
    assert line.startswith("failed ")
    assert "`age`" in line
    assert all(line.startswith("failed ") for line in listed.stdout.splitlines()[2:])


async def test_a_header_that_the_worker_would_refuse_is_not_sent(
    running: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "no-age.csv"
    file.write_text("sex,chol\nmale,233\n")
    folder = tmp_path / "no-model"

    refused = await call_here(running, "submit", str(file), "--model-dir", str(artifact_dir))
    unchecked = await call_here(running, "submit", str(file), "--model-dir", str(folder))

    assert refused.returncode == 3
    assert "`age`" in refused.stderr
    assert "sent" not in refused.stderr
    assert unchecked.returncode == 0
    assert f"headers are not checked: there is no model in {folder}" in unchecked.stderr


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (GOOD, []),
        (gzip.compress(GOOD), []),
        (json_lines(a_patient(), a_patient(age=60)), ["--format", "jsonl"]),
    ],
    ids=["csv", "gzip", "jsonl"],
)
def test_stdin_is_a_file_too(
    content: bytes, options: list[str], running: Running, tmp_path: Path
) -> None:
    output = tmp_path / "scores"

    done = subprocess.run(
        [*COMMAND, "submit", "-", "-o", str(output), *options],
        input=content,
        capture_output=True,
        check=False,
        timeout=60,
        env=environment(running.connection_string),
    )

    assert done.returncode == 0, done.stderr
    assert b"rows     2 total, 2 scored, 0 rejected" in done.stdout
    assert output.stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps([a_patient(), a_patient(age=60)]).encode()),
        ("a.jsonl", json_lines(a_patient(), a_patient(age=60))),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)),
        ("A.NDJSON.GZ", gzip.compress(json_lines(a_patient(), a_patient(age=60)), mtime=0)),
    ],
)
async def test_each_format_is_scored_and_can_be_verified(
    name: str, content: bytes, running: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    done = await call_here(running, "submit", str(file), "--wait", "--batch-id", batch := a_name())
    checked = await call_here(running, "verify", batch, "--model-dir", str(artifact_dir))

    assert "rows     2 total, 2 scored, 0 rejected" in done.stdout
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("2 rows, 0 differ")


async def test_a_folder_is_a_batch_for_each_of_its_files(running: Running, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "notes.txt").write_text("not sent")

    done = await call_here(running, "submit", str(tmp_path), "--wait", "--json")

    summaries = json.loads(done.stdout)
    assert [summary["batch_id"][0] for summary in summaries] == ["a", "b"]
    assert {summary["status"] for summary in summaries} == {"succeeded"}


async def test_a_folder_without_such_files_is_refused(running: Running, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not sent")

    done = await call_here(running, "submit", str(tmp_path))

    assert done.returncode == 3
    assert "no file in this folder ends in one of .csv" in done.stderr


async def test_without_waiting_the_ids_are_printed_and_the_batch_is_queued(
    running: Running, idle: str, good: Path
) -> None:
    done = await call_here(running, "submit", str(good), str(good), SCORER_QUEUE=idle)

    ids = done.stdout.split()
    state = await call_here(running, "status", ids[0], "--json")
    assert len(ids) == len(set(ids)) == 2
    assert json.loads(state.stdout) == {
        "batch_id": ids[0],
        "status": "queued",
        "rows": {"total": 0, "scored": 0, "rejected": 0},
    }


async def test_a_batch_that_nobody_knows_exits_1(running: Running) -> None:
    done = await call_here(running, "status", "never-sent")
    verified = await call_here(running, "verify", "never-sent")

    assert (done.returncode, verified.returncode) == (1, 1)
    assert "there is no batch never-sent" in done.stderr
    assert "batch never-sent has no result" in verified.stderr


async def test_the_same_file_sent_again_under_its_id_is_the_same_batch(
    running: Running, good: Path
) -> None:
    words = ("submit", str(good), "--wait", "--json", "--batch-id", a_name())

    first, second = await call_here(running, *words), await call_here(running, *words)

    assert second.stdout == first.stdout


async def test_another_file_under_a_used_id_is_not_sent(running: Running, good: Path) -> None:
    name = a_name()
    await call_here(running, "submit", str(good), "--batch-id", name)

    done = await call_here(running, "submit", str(SAMPLE), "--batch-id", name)

    assert done.returncode == 1
    assert f"batch {name} is another input or has other options" in done.stderr


async def test_an_outcome_that_does_not_come_exits_5(
    running: Running, idle: str, good: Path
) -> None:
    words = ("submit", str(good), "--wait", "--timeout", "1", "--json")

    done = await call_here(running, *words, SCORER_QUEUE=idle)

    assert done.returncode == 5
    assert json.loads(done.stdout)["status"] == "running"
    assert "see: heart-scorer status good-" in done.stderr


def test_interrupted_while_it_waits_it_says_how_to_find_the_batch(
    running: Running, idle: str, good: Path
) -> None:
    name = a_name()
    command = subprocess.Popen(
        [*COMMAND, "submit", str(good), "--wait", "--batch-id", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(running.connection_string, SCORER_QUEUE=idle),
    )
    assert command.stderr is not None
    sent = command.stderr.readline()
    command.send_signal(signal.SIGINT)
    out, said = command.communicate(timeout=240)

    assert sent == f"batch {name}: sent\n"
    assert command.returncode == 130
    assert out == ""
    assert said == f"batch {name} goes on; see: heart-scorer status {name}\ninterrupted\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["patients.xls"], 3, "must end in one of .csv"),
        (["empty.csv"], 3, "the file is empty"),
        (["missing.csv"], 2, "does not exist"),
        (["good.csv", "--batch-id", "no spaces"], 2, "--batch-id: 1 to 60 letters"),
        (["good.csv", "good.csv", "--batch-id", "x"], 2, "are for one file"),
        (["good.csv", "--output", "no-such-folder/x.csv"], 2, "cannot be written"),
        (["good.csv", "--output", "."], 2, "cannot be written"),
    ],
)
async def test_options_that_can_only_fail_are_refused_before_anything_is_sent(
    words: list[str],
    code: int,
    why: str,
    running: Running,
    mixed: None,
) -> None:
    done = await call_here(running, "submit", *words)

    assert done.returncode == code
    assert why in done.stderr
    assert "sent" not in done.stderr


@pytest.mark.parametrize(
    ("env", "plain"), [({}, False), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, True)]
)
def test_a_terminal_gets_a_bar_and_colours_only_if_it_wants_them(
    env: dict[str, str], plain: bool, running: Running, idle: str, good: Path
) -> None:
    words = ("submit", str(good), "--wait", "--timeout", "1")

    _, text = on_terminal(
        running.connection_string, *words, **({"TERM": "xterm", "SCORER_QUEUE": idle} | env)
    )

    assert ("rows/s" in text) is not plain
    assert ("\x1b[3" in text) is (env == {})  # a colour


def test_without_a_terminal_there_are_plain_lines(running: Running, idle: str, good: Path) -> None:
    done = call(running, "submit", str(good), "--wait", "--timeout", "1", SCORER_QUEUE=idle)

    assert "\x1b" not in done.stdout + done.stderr
    assert "rows/s" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


async def test_without_storage_the_message_says_how_to_start_it() -> None:
    done = await call_here(None, "submit", str(SAMPLE))

    assert done.returncode == 2
    assert "heart-scorer up" in done.stderr
