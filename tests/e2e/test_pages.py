"""The other pages in a real browser: API, model card, problems, and the header they share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from cli.local import Running
from tests.e2e.browser import PATIENCE, barriers, chromium, page_of

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)

PAGES = {
    "Score": ("/", ".record"),
    "Model card": ("/model-card", ".contents"),
    "API": ("/docs", ".opblock"),
    "Problems": ("/problems", "#record_rejected"),
}
"""By the link in the header: its path, and an element that tells that it is whole."""
PHONE = {"viewport": {"width": 390, "height": 844}}
NARROW = {"viewport": {"width": 320, "height": 640}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, running: Running) -> Iterator[Page]:
    with page_of(browser, running.api_url) as opened:
        yield opened


@pytest.mark.parametrize("name", PAGES)
def test_a_page_links_to_all_others_and_says_where_it_is(page: Page, name: str) -> None:
    path, whole = PAGES[name]

    page.goto(path)
    page.locator(whole).first.wait_for()

    header = page.get_by_role("navigation", name="Pages")
    expect(header.get_by_role("link")).to_have_text(list(PAGES))
    expect(header.locator("[aria-current=page]")).to_have_text(name)
    for link in PAGES:
        header.get_by_role("link", name=link).click()
        page.locator(PAGES[link][1]).first.wait_for()


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE, NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_has_no_barrier(
    browser: Browser, running: Running, name: str, options: dict[str, object]
) -> None:
    path, whole = PAGES[name]
    with page_of(browser, running.api_url, **options) as page:
        page.goto(path)
        page.locator(whole).first.wait_for()

        found = barriers(page)
        if name == "API":  # Swagger UI puts buttons into buttons; we do not change its markup
            found = [text for text in found if not text.startswith("nested-interactive")]
        assert found == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_patient_can_be_scored_from_the_api_page(page: Page) -> None:
    page.goto("/docs")
    operation = page.locator(".opblock", has_text="/predict").first

    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()

    expect(operation.get_by_text('"prediction"').first).to_be_visible()


def test_the_api_page_offers_a_file_picker_for_batches(page: Page) -> None:
    page.goto("/docs")
    operation = page.locator(".opblock-post", has_text="/batches")

    operation.locator(".opblock-summary-control").click()

    expect(operation.locator("input[type=file]")).to_have_count(1)


def test_wide_tables_of_the_card_scroll_by_keyboard(browser: Browser, running: Running) -> None:
    with page_of(browser, running.api_url, **PHONE) as page:
        page.goto("/model-card")
        table = page.get_by_role("region", name="Predictors")

        table.focus()
        page.keyboard.press("ArrowRight")

        page.wait_for_function("table => table.scrollLeft > 0", arg=table.element_handle())


def test_the_type_of_a_problem_leads_to_its_entry(page: Page) -> None:
    answer = page.request.get("/batches/there-is-none")

    page.goto(answer.json()["type"])

    expect(page.locator("section:target")).to_contain_text("404")
