"""The command line against the running services, as a user would call it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from cli.local import ROOT, Running

SAMPLE = ROOT / "samples/patients.csv"


def run(running: Running, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": running.connection_string},
    )


def test_a_submitted_file_comes_back_scored_row_by_row(running: Running, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"

    done = run(running, "submit", str(SAMPLE), "--wait", "--include-input", "--output", str(output))

    assert done.returncode == 0, done.stderr
    with SAMPLE.open(newline="") as sent, output.open(newline="") as scored:
        records, rows = list(csv.DictReader(sent)), list(csv.DictReader(scored))
    assert [row["patient_id"] for row in rows] == [r["patient_id"] for r in records]
    assert [row["row"] for row in rows] == [str(n) for n in range(1, 14)]
    assert [row["input_chol"] for row in rows] == [r["chol"] for r in records]
    rejected = [row for row in rows if row["error"]]
    assert [row["patient_id"] for row in rejected] == ["typing-error"]
    assert all(row["probability"] for row in rows if not row["error"])


def test_the_summary_comes_as_json_and_again_by_status(running: Running) -> None:
    done = run(running, "submit", str(SAMPLE), "--wait", "--json", "--batch-id", "json-summary")
    summary = json.loads(done.stdout)
    again = run(running, "status", "json-summary", "--json")

    assert summary["status"] == "succeeded"
    assert summary["rows"]["total"] == 13
    assert json.loads(again.stdout) == summary


def test_strict_exits_3_when_a_row_was_rejected(running: Running) -> None:
    assert run(running, "submit", str(SAMPLE), "--wait", "--strict").returncode == 3


def test_a_file_without_a_required_column_fails_and_says_why(
    running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "no-age.csv"
    file.write_text("sex,chol\nmale,233\n")

    done = run(running, "submit", str(file), "--wait")

    assert done.returncode == 1
    assert "status   failed" in done.stdout
    assert "`age`" in done.stdout


def test_a_file_of_unknown_format_is_not_sent(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "patients.xlsx"
    file.write_bytes(b"PK")

    done = run(running, "submit", str(file))

    assert done.returncode == 3
    assert "must end in .csv" in done.stderr


def test_without_storage_the_way_out_is_said(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AZURE_", "SCORER_"))}

    done = subprocess.run(
        [sys.executable, "-m", "cli", "status", "nothing"],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )

    assert done.returncode == 2
    assert "heart-scorer up" in done.stderr
