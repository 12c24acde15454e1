"""A headless Chromium that may reach this machine only, and pages that watch themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # The network is cut: no name but this machine's is found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE = 60_000
"""Milliseconds until a page must show something."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. Without it the test is skipped; `.ci/run` installs it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """An empty tab for `url`; afterwards, it must have asked no other origin and broken no rule."""
    requests: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(base_url=url, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    try:
        yield page
    finally:
        context.close()
    origin = urlsplit(url)[:2]
    elsewhere = [url for url in requests if urlsplit(url)[:2] != origin]
    assert [url for url in elsewhere if not url.startswith(("blob:", "data:"))] == []
    # The browser itself reports answers such as 401 and 503, which the page explains to people.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def barriers(page: Page) -> list[str]:
    """Serious findings of axe-core on the page as it is now."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
