"""Swagger UI and ReDoc in a browser whose network is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_process import RunningApi, running_api
from tests.chromium import chromium_page


@pytest.fixture(scope="module")
def api(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with running_api(artifact_dir, tmp_path_factory.mktemp("api") / "log") as running:
        yield running


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/docs", "document.querySelectorAll('.opblock').length > 10"),
        ("/redoc", "document.querySelector('[id*=Scores]')"),
        ("/problems", "document.querySelector('#record_rejected')"),
    ],
)
async def test_a_page_asks_no_other_host_and_nothing_of_it_is_refused(
    api: RunningApi, path: str, shown: str, tmp_path: Path
) -> None:
    async with chromium_page(tmp_path / "profile") as page:
        await page.open(api.url + path)
        await page.wait_for(shown)
        await page.screenshot(tmp_path / "page.png")

    elsewhere = [url for url in page.requests if not url.startswith((api.url, "data:"))]
    assert elsewhere == []
    assert page.complaints == []


async def test_a_patient_can_be_scored_from_the_page(api: RunningApi, tmp_path: Path) -> None:
    async with chromium_page(tmp_path / "profile") as page:
        await page.open(api.url + "/docs")
        await page.wait_for("document.querySelectorAll('.opblock').length > 10")
        await page.value("document.querySelector('.opblock-summary-control').click()")
        await page.wait_for("document.querySelector('.opblock button.execute')")
        await page.value("document.querySelector('.opblock button.execute').click()")
        await page.wait_for("document.body.innerText.includes('\"prediction\"')")
        await page.screenshot(tmp_path / "page.png")

    assert page.complaints == []
