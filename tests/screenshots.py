"""Take the README's pictures of the page: `make screenshots`."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from playwright.sync_api import Page

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
        one_patient(page)
        a_file(page, patients(Path(folder)))


if __name__ == "__main__":
    main()
