"""`make demo`: everything once, from training to a scored table, then all of it stopped."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from cli.local import LOCAL, ROOT, LocalError, Running, everything
from cli.output import Exit, say

SAMPLE = ROOT / "samples/patients.csv"
PATIENT = {"age": 63, "sex": "male", "cp": "asymptomatic", "trestbps": 145, "chol": 233}


def main() -> int:
    """Show the product at work. 0 when all of it worked."""
    try:
        with everything(LOCAL / "logs", data=None) as running:
            score_one(running)
            return score_file(running)
    except LocalError as error:
        say(str(error))
        return Exit.FAILED
    except KeyboardInterrupt:
        say("stopped")
        return Exit.INTERRUPTED


def score_one(running: Running) -> None:
    """One patient over HTTP."""
    say(f"\nOne patient: POST {running.api_url}/predict")
    request = urllib.request.Request(  # noqa: S310  # our own api on loopback
        f"{running.api_url}/predict",
        json.dumps(PATIENT).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        answer = json.load(response)
    print("  " + json.dumps(PATIENT))
    print("  " + json.dumps(answer), flush=True)


def score_file(running: Running) -> int:
    """A file through blob and queue, by the command line as a user would call it."""
    say(f"\nA file: heart-scorer submit {SAMPLE.relative_to(ROOT)} --wait")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "scores.csv"
        done = subprocess.run(  # noqa: S603  # our own command
            [
                *(sys.executable, "-m", "cli", "submit", str(SAMPLE)),
                *("--wait", "--include-input", "--output", str(output)),
            ],
            env=_environment(running),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            say(done.stderr)
            return Exit.FAILED
        with output.open(newline="", encoding="utf-8") as file:
            show(list(csv.DictReader(file)))
    print()
    print("\n".join("  " + line for line in done.stdout.splitlines()), flush=True)
    return Exit.DONE


def _environment(running: Running) -> dict[str, str]:
    return os.environ | {"AZURE_STORAGE_CONNECTION_STRING": running.connection_string}


def show(rows: list[dict[str, str]]) -> None:
    """The scored table, and why a row has no score."""
    columns = ("row", "patient_id", "input_age", "input_sex", "probability", "prediction")
    titles = ("row", "patient", "age", "sex", "probability", "prediction")
    cells = [titles, *(tuple(row[column] for column in columns) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(titles))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        error = rows[number - 1]["error"] if number else ""
        print("  " + (f"{line}  {error}" if error else line.rstrip()))


if __name__ == "__main__":
    sys.exit(main())
