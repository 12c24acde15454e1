"""Take the README's pictures of the page and of the terminal: `make screenshots`."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console
from rich.text import Text

from cli.local import ROOT, azurite, services
from tests.e2e.browser import chromium, page_of

PICTURES = ROOT / "docs/images"
DATA = ROOT / "training/heart/data/heart_cleveland.csv"
OUTCOME = "condition"


def one_patient(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Every field").click()
    page.locator(".probability").wait_for()
    page.mouse.move(0, 0)
    page.wait_for_function("!document.querySelector('.old')")
    page.screenshot(path=PICTURES / "one-patient.png")


def a_file(page: Page, file: Path) -> None:
    page.goto("/#file")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Score 303 rows").click()
    page.locator(".histogram").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=PICTURES / "a-file.png")


def terminal(connection_string: str) -> None:
    """Draw what `heart-scorer submit` prints on a terminal."""
    words = ["submit", "samples/patients.csv", "--wait"]
    command = [str(Path(sys.executable).parent / "heart-scorer"), *words]
    env = os.environ | {
        "AZURE_STORAGE_CONNECTION_STRING": connection_string,
        "TERM": "xterm-256color",
        "COLUMNS": "88",
        "LINES": "24",
    }
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 4096):
            printed += piece
    except OSError:  # Linux reports the end of a terminal so
        pass
    process.wait(timeout=60)
    console = Console(record=True, width=88, force_terminal=True, file=io.StringIO())
    console.print(Text(f"$ heart-scorer {' '.join(words)}", style="bold"))
    for line in lines(printed.decode()):
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="heart-scorer", unique_id="submit")
    # The picture loads nothing: a viewer without the font uses its own.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (PICTURES / "submit.svg").write_text(svg)


def lines(printed: str) -> list[str]:
    """The lines that remain on the terminal; a progress bar rewrites its own."""
    return [
        re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", line.split("\r")[-1])
        for line in printed.replace("\r\n", "\n").split("\n")
    ]


def patients(folder: Path) -> Path:
    """The study's patients without their outcome; one cholesterol is in another unit."""
    with DATA.open(newline="") as source:
        rows = list(csv.DictReader(source))
    names = [name for name in rows[0] if name != OUTCOME]
    rows[17]["chol"] = "6.2"
    file = folder / "ward-7.csv"
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, ["patient_id", *names], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"patient_id": f"W7-{i:03}"} | row for i, row in enumerate(rows, 1))
    return file


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    viewport = {"width": 1280, "height": 1120}
    with (
        tempfile.TemporaryDirectory() as folder,
        azurite(None, Path(folder)) as storage,
        services(
            storage.connection_string, Path(folder), env={"SCORER_IDLE_SECONDS": "0.3"}
        ) as running,
        chromium() as browser,
        page_of(browser, running.api_url, viewport=viewport, reduced_motion="reduce") as page,
    ):
        terminal(storage.connection_string)
        one_patient(page)
        a_file(page, patients(Path(folder)))


if __name__ == "__main__":
    main()
