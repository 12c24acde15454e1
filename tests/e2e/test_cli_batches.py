"""Batches by the command line: the service, the queue, outcomes, scores, cancelling."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.local import Running
from shared.batches.presence import (
    GONE_SECONDS,
    WORKERS,
    Presence,
    Retry,
    delete_presence,
    delete_retry,
    write_presence,
    write_retry,
)
from shared.storage.azure import Storage
from tests.builders import a_csv, a_patient
from tests.e2e.command import Done, call_here

MIXED = a_csv(a_patient(), {"patient_id": 'with "quotes",\nand lines', "age": 999, "sex": 1})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A file of which the second row is rejected."""
    file = tmp_path / "mixed.csv"
    file.write_bytes(MIXED)
    return file


@pytest.fixture
async def idle(storage: Storage, running: Running) -> str:
    """A queue without a worker."""
    name = f"idle-{uuid.uuid4().hex[:8]}"
    for queue in (name, f"{name}-poison"):
        await storage.queue(queue).create()
    await storage.blobs().create_container(WORKERS)
    return name


def a_name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


async def test_the_scores_of_a_batch_are_printed_or_written(
    running: Running, mixed: Path, tmp_path: Path
) -> None:
    await call_here(running, "submit", str(mixed), "--wait", "--batch-id", name := a_name())

    printed = await call_here(running, "scores", name)
    await call_here(running, "scores", name, "-o", str(tmp_path / "scores.csv"))
    rejected = await call_here(running, "scores", name, "--rejected")

    assert len(list(csv.DictReader(io.StringIO(printed.stdout, newline="")))) == 2
    assert (tmp_path / "scores.csv").read_text() == printed.stdout
    [row] = csv.DictReader(io.StringIO(rejected.stdout, newline=""))
    assert (row["row"], row["probability"]) == ("2", "")
    assert row["error"].startswith("out_of_range: age")


async def test_the_report_of_a_batch_is_printed_or_written(
    running: Running, mixed: Path, tmp_path: Path
) -> None:
    words = ("submit", str(mixed), "--wait", "--profile", "--batch-id", name := a_name())
    await call_here(running, *words)
    output = tmp_path / "report.html"

    printed = await call_here(running, "report", name)
    written = await call_here(running, "report", name, "-o", str(output))
    unknown = await call_here(running, "report", "nobody")

    assert (printed.returncode, written.returncode, unknown.returncode) == (0, 0, 1)
    assert f"Batch {name}" in printed.stdout
    assert printed.stdout.count("<svg") > 10
    assert output.read_text(encoding="utf-8") == printed.stdout
    assert "nobody has no outcome yet" in unknown.stderr


async def test_recent_batches_are_compared_with_training(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_bytes(a_csv(*(a_patient(age=40 + n % 30) for n in range(300))))
    words = ("submit", str(file), "--wait", "--profile", "--batch-id", a_name())
    await call_here(running, *words)

    text = await call_here(running, "drift", "--since", "1h")
    document = await call_here(running, "drift", "--since", "1h", "--json")
    nothing = await call_here(running, "drift", "--since", "0s")

    found = json.loads(document.stdout)
    assert found["rows"]["scored"] >= 300
    assert found["before"] is None
    assert {"age", "chol"} <= found["fields"].keys()
    assert "sex is " in text.stdout  # all of these are of one sex
    assert (text.returncode, document.returncode, nothing.returncode) == (0, 0, 1)
    assert "no batch of the last 0s has a profile" in nothing.stderr


async def test_of_json_the_rejected_lines_are_printed(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "mixed.json"
    file.write_text(json.dumps([a_patient(), a_patient(age=999)]))
    await call_here(running, "submit", str(file), "--wait", "--batch-id", name := a_name())

    done = await call_here(running, "scores", name, "--rejected")

    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [2]


async def test_a_batch_without_scores_says_so(running: Running) -> None:
    done = await call_here(running, "scores", "never-sent")

    assert done.returncode == 1
    assert "batch never-sent has no outcome yet" in done.stderr


async def test_several_batches_are_waited_for(running: Running, mixed: Path) -> None:
    names = [a_name(), a_name()]
    for name in names:
        await call_here(running, "submit", str(mixed), "--batch-id", name)

    done = await call_here(running, "wait", *names, "--json")
    strict = await call_here(running, "wait", names[0], "--strict")

    assert [summary["batch_id"] for summary in json.loads(done.stdout)] == names
    assert (done.returncode, strict.returncode) == (0, 3)


async def test_waiting_until_the_timeout_exits_5(running: Running, idle: str, mixed: Path) -> None:
    name = a_name()
    await call_here(running, "submit", str(mixed), "--batch-id", name, SCORER_QUEUE=idle)

    done = await call_here(running, "wait", name, "--timeout", "1", SCORER_QUEUE=idle)

    assert done.returncode == 5
    assert f"heart-scorer status {name}" in done.stderr


async def test_the_queue_is_listed_and_stays_as_it_is(
    running: Running, storage: Storage, idle: str, mixed: Path
) -> None:
    name = a_name()
    await call_here(running, "submit", str(mixed), "--batch-id", name, SCORER_QUEUE=idle)
    await storage.queue(idle).send("age,sex\n54,1\n")
    await storage.queue(idle).send('{"schema":"heart-scorer/1"}')

    listed = await call_here(running, "queue", SCORER_QUEUE=idle)
    document = json.loads((await call_here(running, "queue", "--json", SCORER_QUEUE=idle)).stdout)

    assert f"uploads/{name}/input.csv" in listed.stdout
    assert "records inside the message (12 bytes)" in listed.stdout
    assert "54,1" not in listed.stdout
    assert "the envelope is not heart-scorer/1" in listed.stdout
    assert [row["deliveries"] for row in document] == [0, 0, 0]
    assert listed.stderr.startswith("3 waiting")


@pytest.fixture
async def retried(storage: Storage, idle: str) -> AsyncIterator[str]:
    """A batch whose message is tried again in four minutes."""
    batch_id, now = a_name(), datetime.now(UTC)
    retry = Retry(
        batch_id,
        "the input blob is not there",
        (now - timedelta(minutes=25)).isoformat(),
        (now + timedelta(seconds=250)).isoformat(),
        4,
    )
    await write_retry(storage.blobs(), retry)
    yield batch_id
    await delete_retry(storage.blobs(), batch_id)


async def test_a_batch_that_is_retried_says_for_what_and_when(
    running: Running, idle: str, retried: str
) -> None:
    one = await call_here(running, "status", retried, SCORER_QUEUE=idle)
    listed = await call_here(running, "queue", SCORER_QUEUE=idle)

    assert one.returncode == 0
    assert "waiting  the input blob is not there, for 25 min, next attempt in 4 min" in one.stdout
    [line] = [line for line in listed.stdout.splitlines() if retried in line]
    assert "25 min" in line
    assert "in 4 min" in line


async def test_a_message_that_waits_is_no_unknown_batch(
    running: Running, storage: Storage, idle: str
) -> None:
    name = a_name()
    body = {"schema": "heart-scorer/1", "batch_id": name, "csv": "age,sex\n54,1\n"}
    await storage.queue(idle).send(json.dumps(body))

    done = await call_here(running, "status", name, SCORER_QUEUE=idle)

    assert (done.returncode, done.stdout) == (0, f"batch    {name}\nstatus   queued\n")


async def service(running: Running, **env: str) -> Done:
    return await call_here(running, "status", "--limit", "3", **env)


async def test_the_service_is_one_line_and_its_batches_follow_state_first(
    running: Running, idle: str, mixed: Path
) -> None:
    finished, queued = a_name(), a_name()
    await call_here(running, "submit", str(mixed), "--wait", "--batch-id", finished)
    await call_here(running, "submit", str(mixed), "--batch-id", queued, SCORER_QUEUE=idle)

    done = await service(running, SCORER_QUEUE=idle)
    document = json.loads((await call_here(running, "status", "--json", SCORER_QUEUE=idle)).stdout)

    first, _, *lines = done.stdout.splitlines()
    assert first.startswith("waiting 1 (oldest ")
    assert " · poison 0 · " in first
    states = {line.split()[1]: line.split()[0] for line in lines}
    assert states[finished] == "succeeded"
    assert states[queued] == "queued"
    assert document["service"]["waiting"] == 1
    members = {"batch_id", "status", "time", "rows", "reason", "model"}
    assert members == document["batches"][0].keys()


async def test_a_worker_that_left_no_sign_for_long_is_gone(
    running: Running, storage: Storage, idle: str
) -> None:
    presence = Presence(f"test-{uuid.uuid4().hex}", "1.0.0", "0.1.0", 4, 2, "2026-01-01T00:00:00Z")
    await write_presence(storage.blobs(), presence)

    document = json.loads((await call_here(running, "status", "--json", SCORER_QUEUE=idle)).stdout)
    await delete_presence(storage.blobs(), presence.worker)
    after = json.loads((await call_here(running, "status", "--json", SCORER_QUEUE=idle)).stdout)

    [mine] = [w for w in document["service"]["workers"] if w["worker"] == presence.worker]
    assert (mine["in_use"], mine["gone"]) == (2, False)
    assert presence.worker not in {w["worker"] for w in after["service"]["workers"]}
    assert GONE_SECONDS > 60


@pytest.mark.parametrize("age", ["yesterday", "12", "h"])
async def test_an_age_that_cannot_be_read_is_a_usage_error(running: Running, age: str) -> None:
    assert (await call_here(running, "status", "--since", age)).returncode == 2


async def test_a_queued_batch_can_be_cancelled_once(
    running: Running, idle: str, mixed: Path
) -> None:
    name = a_name()
    await call_here(running, "submit", str(mixed), "--batch-id", name, SCORER_QUEUE=idle)

    cancelled = await call_here(running, "cancel", name)
    again = await call_here(running, "cancel", name)
    shown = await call_here(running, "status", name)

    assert (cancelled.returncode, cancelled.stdout) == (0, f"batch {name}: cancelled\n")
    assert again.returncode == 0
    assert "status   cancelled" in shown.stdout


async def test_a_finished_batch_cannot_be_cancelled_nor_one_that_nobody_knows(
    running: Running, mixed: Path
) -> None:
    await call_here(running, "submit", str(mixed), "--wait", "--batch-id", name := a_name())

    late = await call_here(running, "cancel", name)
    unknown = await call_here(running, "cancel", "never-sent")

    assert (late.returncode, late.stderr) == (1, f"batch {name} already succeeded\n")
    assert unknown.returncode == 1
    assert "batch never-sent was not submitted" in unknown.stderr
