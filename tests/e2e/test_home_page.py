"""The home page in a real browser: one patient, a file, batches, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cli.local import ROOT, Running, services
from tests.api_process import running_api
from tests.e2e.browser import PATIENCE, barriers, chromium, page_of
from tests.e2e.client import get, post
from tests.e2e.command import call
from tests.own_models import SKIDS, write_page
from tests.ports import free_port
from training.examples import diabetes, wine
from training.recipe import Recipe
from training.train import train

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)

SAMPLE = ROOT / "samples/patients.csv"
PHONE = {"viewport": {"width": 390, "height": 844}}
NARROW = {"viewport": {"width": 320, "height": 640}}


# One browser per module, closed with it: its event loop must not meet that of other tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, running: Running) -> Iterator[Page]:
    with page_of(browser, running.api_url) as opened:
        opened.goto("/")
        yield opened


def fill_patient(page: Page) -> dict[str, object]:
    """Type in a patient as a person would; the same as a record."""
    page.get_by_label("Age", exact=True).fill("63")
    page.get_by_label("Male", exact=True).check()
    page.get_by_label("Asymptomatic").check()
    page.get_by_label("Serum cholesterol").fill("233")
    page.get_by_label("ST depression in exercise relative to rest").fill("2,3")
    return {"age": 63, "sex": "male", "cp": "asymptomatic", "chol": 233, "oldpeak": 2.3}


def percent(probability: float) -> str:
    return f"{round(probability * 100)}\u00a0%"


def choose(page: Page, path: Path) -> None:
    page.get_by_role("link", name="A file").click()
    page.locator("input[type=file]").set_input_files(path)


def batch_id(page: Page) -> str:
    expect(page).to_have_url(re.compile("#batch="))
    return unquote(page.url.partition("#batch=")[2])


def downloaded(page: Page, name: str, role: Literal["button", "link"] = "button") -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role(role, name=name).click()
    return waiting.value.path().read_bytes()


def test_a_patient_gets_the_score_of_the_api(page: Page, running: Running) -> None:
    record = fill_patient(page)

    _, answer = post(f"{running.api_url}/predict", record)
    shown = page.locator(".probability")
    expect(shown).to_have_text(percent(answer["probability"]))
    expect(page.get_by_text("At or above the threshold of 50")).to_be_visible()
    expect(
        page.get_by_role("row", name=re.compile("Chest pain type.*Asymptomatic"))
    ).to_be_visible()
    expect(page.get_by_text("Not given: ")).to_contain_text("Thallium scan")
    assert barriers(page) == []


def test_no_value_of_a_patient_appears_in_a_url(page: Page) -> None:
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))

    fill_patient(page)
    page.locator(".probability").wait_for()

    assert "233" not in page.url
    assert [url for url in urls if "233" in url] == []


def test_similar_patients_are_told_only_for_a_set_of_fields_that_was_evaluated(page: Page) -> None:
    page.get_by_role("button", name="Every field").click()
    expect(
        page.get_by_text(re.compile(r"Of \d+ study patients with a similar score"))
    ).to_be_visible()

    page.get_by_label("Serum cholesterol").fill("")

    expect(page.get_by_text("no figures for exactly these fields")).to_be_visible()


def test_values_are_checked_while_they_are_typed(page: Page) -> None:
    fill_patient(page)
    cholesterol = page.get_by_label("Serum cholesterol")

    cholesterol.fill("600")
    expect(page.get_by_text("Outside the range of the training data")).to_be_visible()
    expect(page.get_by_text(re.compile("Serum cholesterol outside training range"))).to_be_visible()

    cholesterol.fill("5,2")
    expect(page.get_by_text("Looks like mmol/l")).to_be_visible()
    expect(cholesterol).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".probability")).to_have_count(0)
    assert barriers(page) == []

    page.get_by_role("button", name="Use 201").click()
    expect(cholesterol).to_have_value("201")
    expect(page.locator(".probability")).to_be_visible()


def test_a_patient_is_scored_by_keyboard_alone(page: Page) -> None:
    page.get_by_role("button", name="Clear").focus()

    page.keyboard.press("Tab")
    page.keyboard.type("63")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")

    expect(page.locator(".probability")).to_be_visible()
    expect(page.get_by_label("Male", exact=True)).to_be_checked()


def test_the_code_to_copy_asks_for_the_same_score(page: Page, running: Running) -> None:
    record = fill_patient(page)
    page.get_by_text("As code").click()
    page.get_by_role("button", name="Python").click()

    code = page.get_by_label("Code")
    expect(code).to_contain_text("2.3")
    [text] = re.findall(r"record = (\{.*\})", code.inner_text())
    assert json.loads(text) == record


def test_the_sample_is_dropped_followed_and_downloaded(
    page: Page, tmp_path: Path, running: Running
) -> None:
    page.get_by_role("link", name="A file").click()
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "patients.csv"));
            const zone = document.querySelector(".drop");
            zone.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }""",
        SAMPLE.read_text(),
    )
    expect(page.get_by_text("separated by comma")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("button", name="Score 13 rows").click()

    expect(page.locator(".badge.succeeded")).to_be_visible()
    expect(page.locator(".histogram")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("9 typing-error chol must be"))).to_be_visible()
    assert barriers(page) == []
    scores = downloaded(page, "Download the scores")
    by_command = tmp_path / "scores.csv"
    arguments = ["submit", str(SAMPLE), "--include-input", "--wait", "--output", str(by_command)]
    done = call(running.connection_string, *arguments)
    assert done.returncode == 0, done.stderr
    assert scores == by_command.read_bytes()


def test_the_rejected_rows_can_be_corrected_and_sent_again(page: Page, tmp_path: Path) -> None:
    choose(page, SAMPLE)
    page.get_by_role("button", name="Score 13 rows").click()
    page.get_by_role("button", name="Only the rejected rows").wait_for()

    rejected = downloaded(page, "Only the rejected rows").decode()

    [row] = csv.DictReader(io.StringIO(rejected))
    assert row["patient_id"] == "typing-error"
    assert row["error"].startswith("out_of_range: chol")
    corrected = tmp_path / "corrected.csv"
    corrected.write_text(rejected.replace(",5.2,", ",201,"))
    choose(page, corrected)
    page.get_by_role("button", name="Score 1 row").click()
    expect(page.locator(".badge.succeeded")).to_be_visible()
    expect(page.locator(".figures")).to_contain_text("Scored1")


def test_a_file_that_is_sent_again_keeps_its_idempotency_key(page: Page) -> None:
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.abort()

    page.route("**/batches?*", lose, times=1)
    choose(page, SAMPLE)
    page.get_by_role("button", name="Score 13 rows").click()
    page.get_by_role("alert").wait_for()

    with page.expect_request("**/batches?*") as sent:
        page.get_by_role("button", name="Score 13 rows").click()

    assert [sent.value.headers["idempotency-key"]] == keys
    expect(page.locator(".badge.succeeded")).to_be_visible()


def test_a_batch_survives_a_reload(page: Page) -> None:
    choose(page, SAMPLE)
    page.get_by_role("button", name="Score 13 rows").click()
    followed = batch_id(page)

    page.reload()

    expect(page.get_by_role("heading", name="patients.csv")).to_be_visible()
    expect(page.get_by_text(followed)).to_be_visible()
    expect(page.locator(".badge.succeeded")).to_be_visible()


def test_a_file_of_an_office_gets_its_scores_in_the_same_form(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "office.csv"
    file.write_bytes("\ufeffpatient_id;age;sex;oldpeak\r\nMüller;63;male;2,3\r\n".encode())
    choose(page, file)
    expect(page.get_by_text("decimal comma")).to_be_visible()
    page.get_by_role("button", name="Score 1 row").click()
    page.get_by_role("button", name="For Excel").wait_for()

    excel = downloaded(page, "For Excel").decode()

    assert excel.startswith("\ufeffrow;patient_id;probability;")
    [row] = csv.DictReader(io.StringIO(excel.removeprefix("\ufeff")), delimiter=";")
    assert row["patient_id"] == "Müller"
    assert row["input_oldpeak"] == "2,3"
    assert re.fullmatch(r"0,\d+", row["probability"])


def test_the_unicode_text_of_excel_is_sent_as_it_is(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "office.txt"
    file.write_bytes("patient_id\tage\tsex\toldpeak\r\nMüller\t63\tmale\t2,3\r\n".encode("utf-16"))
    choose(page, file)
    expect(page.get_by_text("UTF-16")).to_be_visible()
    page.get_by_role("button", name="Score 1 row").click()
    page.locator(".histogram").wait_for()

    scores = downloaded(page, "Download the scores").decode("utf-8-sig")

    [row] = csv.DictReader(io.StringIO(scores), delimiter="\t")
    assert (row["patient_id"], row["input_oldpeak"]) == ("Müller", "2,3")


def test_json_lines_are_scored_and_come_back_as_json_lines(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text('{"age": 63, "sex": "male"}\n{"age": 630, "sex": "male"}\n')
    choose(page, file)
    page.get_by_role("button", name="Score 2 rows").click()
    page.locator(".histogram").wait_for()

    expect(page.get_by_role("button", name="For Excel")).to_be_hidden()
    scores = downloaded(page, "Download the scores").splitlines()
    assert [json.loads(line)["row"] for line in scores] == [1, 2]
    assert json.loads(downloaded(page, "Only the rejected rows")) == {"age": 630, "sex": "male"}


def test_cells_pasted_from_a_spreadsheet_are_scored(page: Page) -> None:
    page.get_by_role("link", name="A file").click()
    page.get_by_role("button", name="Paste from a spreadsheet").click()
    page.get_by_label("Cells from a spreadsheet").fill("age\tsex\toldpeak\n63\tmale\t2,3\n")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("separated by tab")).to_be_visible()

    page.get_by_role("button", name="Score 1 row").click()

    expect(page.locator(".badge.succeeded")).to_be_visible()
    expect(page.locator(".figures")).to_contain_text("Scored1")


def test_columns_with_other_names_are_mapped_by_hand(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("ID,Age (years),Gender,Cholesterol,col7\nA-1,63,male,233,145\n")
    choose(page, file)
    score = page.get_by_role("button", name="Score 1 row")
    expect(page.get_by_label("Field of the column Cholesterol")).to_have_value("chol")
    expect(score).to_be_disabled()
    assert barriers(page) == []

    page.get_by_label("Field of the column col7").select_option(
        label="Resting systolic blood pressure"
    )
    page.get_by_label("I have checked").check()
    score.click()

    expect(page.locator(".badge.succeeded")).to_be_visible()
    scores = downloaded(page, "Download the scores").decode()
    [row] = csv.DictReader(io.StringIO(scores))
    assert row["patient_id"] == "A-1"
    record = {"age": 63, "sex": "male", "chol": 233, "trestbps": 145}
    _, answer = post(page.url.partition("#")[0] + "predict", record)
    assert float(row["probability"]) == answer["probability"]


def test_a_file_without_a_required_column_is_not_sent(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "short.csv"
    file.write_text("age,chol\n63,233\n")

    choose(page, file)

    expect(page.get_by_text("No column is Sex")).to_be_visible()
    expect(page.get_by_role("button", name="Score 1 row")).to_be_disabled()


def test_a_batch_that_fails_says_why_in_large_letters(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "marked.csv"
    file.write_text("age,sex,target\n63,1,0\n41,0,1\n")
    choose(page, file)
    page.get_by_role("button", name="Score 2 rows").click()

    expect(page.locator(".badge.failed")).to_be_visible()
    why = page.get_by_role("alert")
    expect(why).to_contain_text("target")
    size = why.evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
    assert size > 18
    assert barriers(page) == []


def test_a_workbook_is_named_for_what_it_is(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "patients.csv"
    file.write_bytes(b"PK\x03\x04rest of a workbook")

    choose(page, file)

    expect(page.get_by_role("alert")).to_contain_text("Excel workbook")


def test_a_workbook_is_sent_without_a_preview(page: Page, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["patient_id", "age", "sex"], ["Müller", 63, "male"], ["x", 630, "male"]):
        book.worksheets[0].append(row)
    book.save(tmp_path / "patients.xlsx")

    choose(page, tmp_path / "patients.xlsx")
    page.get_by_role("button", name="Score this file").click()
    page.locator(".histogram").wait_for()

    [first, _] = csv.DictReader(io.StringIO(downloaded(page, "Download the scores").decode()))
    assert first["input_patient_id"] == "Müller"


def test_the_template_is_a_file_that_can_be_scored(page: Page, tmp_path: Path) -> None:
    page.get_by_role("link", name="A file").click()
    template = tmp_path / "template.csv"
    template.write_bytes(downloaded(page, "Download a template", "link"))

    choose(page, template)
    page.get_by_role("button", name="Score 1 row").click()

    expect(page.locator(".badge.succeeded")).to_be_visible()
    expect(page.locator(".figures")).to_contain_text("Scored1")


def test_the_latest_batches_are_listed(page: Page) -> None:
    choose(page, SAMPLE)
    page.get_by_role("button", name="Score 13 rows").click()
    sent = batch_id(page)
    expect(page.locator(".badge.succeeded")).to_be_visible()

    page.get_by_role("link", name="Batches").click()

    row = page.get_by_role("row", name=re.compile(sent))
    expect(row).to_contain_text("Done")
    expect(row).to_contain_text("13")
    assert barriers(page) == []
    row.get_by_role("link").click()
    expect(page.locator(".histogram")).to_be_visible()


def test_a_key_is_asked_for_and_kept_for_the_tab(
    browser: Browser, artifact_dir: Path, tmp_path: Path
) -> None:
    with (
        running_api(artifact_dir, tmp_path / "log", SCORER_API_KEYS="secret-1") as api,
        page_of(browser, api.url) as page,
    ):
        page.goto("/")
        key = page.get_by_label("API key")
        key.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This key was not accepted")).to_be_visible()
        assert barriers(page) == []

        key.fill("secret-1")
        page.get_by_role("button", name="Continue").click()
        fill_patient(page)
        expect(page.locator(".probability")).to_be_visible()

        page.reload()
        fill_patient(page)
        expect(page.locator(".probability")).to_be_visible()
        assert "secret-1" not in page.url


def test_an_outage_of_storage_is_reported_and_nothing_is_lost(
    browser: Browser, artifact_dir: Path, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/devstoreaccount1"
    storage = (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;"
        f"BlobEndpoint={nowhere};QueueEndpoint={nowhere};"
    )
    with (
        running_api(artifact_dir, tmp_path / "log", AZURE_STORAGE_CONNECTION_STRING=storage) as api,
        page_of(browser, api.url) as page,
    ):
        page.goto("/")
        choose(page, SAMPLE)
        page.get_by_role("button", name="Score 13 rows").click()

        expect(page.get_by_role("alert")).to_contain_text("Batches")
        expect(page.get_by_role("button", name="Score 13 rows")).to_be_enabled()

        page.get_by_role("link", name="One patient").click()
        fill_patient(page)
        expect(page.locator(".probability")).to_be_visible()


def test_a_batch_that_no_worker_takes_says_so(
    browser: Browser, artifact_dir: Path, connection_string: str, tmp_path: Path
) -> None:
    queue = "page-without-worker"
    env = {"AZURE_STORAGE_CONNECTION_STRING": connection_string, "SCORER_QUEUE": queue}
    with (
        running_api(artifact_dir, tmp_path / "log", **env) as api,
        page_of(browser, api.url) as page,
    ):
        page.clock.install()
        page.goto("/")
        choose(page, SAMPLE)
        page.get_by_role("button", name="Score 13 rows").click()
        expect(page.get_by_text("Waiting for a worker.")).to_be_visible()

        page.clock.fast_forward("00:45")

        expect(page.get_by_text(re.compile(r"No worker has taken it for \d+ s"))).to_be_visible()
        assert barriers(page) == []


def test_a_batch_is_cancelled(
    browser: Browser, artifact_dir: Path, connection_string: str, tmp_path: Path
) -> None:
    queue = "page-to-cancel"
    env = {"AZURE_STORAGE_CONNECTION_STRING": connection_string, "SCORER_QUEUE": queue}
    with (
        running_api(artifact_dir, tmp_path / "log", **env) as api,
        page_of(browser, api.url) as page,
    ):
        page.goto("/")
        choose(page, SAMPLE)
        page.get_by_role("button", name="Score 13 rows").click()

        page.get_by_role("button", name="Cancel this batch").click()

        expect(page.get_by_text("This batch was cancelled")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel this batch")).to_be_hidden()


@pytest.mark.parametrize("options", [PHONE, NARROW, {"color_scheme": "dark"}, {}])
def test_every_view_fits_and_has_no_barrier(
    browser: Browser, running: Running, options: dict[str, object]
) -> None:
    with page_of(browser, running.api_url, **options) as page:
        page.goto("/")
        page.get_by_role("button", name="Every field").click()
        page.locator(".probability").wait_for()
        for view in ("One patient", "A file", "Batches"):
            page.get_by_role("link", name=view).click()
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert barriers(page) == []


def test_dark_mode_is_dark(browser: Browser, running: Running) -> None:
    with page_of(browser, running.api_url, color_scheme="dark") as page:
        page.goto("/")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert sum(map(int, re.findall(r"\d+", ground))) < 150


def test_another_model_fits_the_same_page(browser: Browser, tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_page(tmp_path)
    table = call(None, "fields", str(SKIDS), "--without", "skid")
    (tmp_path / "fields.py").write_text(table.stdout)
    recipe, data = tmp_path / "skid.py", tmp_path / "skids.csv"
    done = call(None, "train", "--model", str(recipe), "--data", str(data), "--output", str(model))
    assert done.returncode == 0, done.stderr

    with running_api(model, tmp_path / "log") as api, page_of(browser, api.url) as page:
        page.goto("/")
        expect(page.get_by_role("heading", name="Probability of a skid", level=1)).to_be_visible()
        expect(page.get_by_role("link", name="One drive")).to_be_visible()
        page.get_by_label("Speed").fill("140")
        page.get_by_label("Yes").check()
        page.get_by_label("summer").check()

        drive = {"speed": 140, "wet": "yes", "tyres": "summer"}
        _, answer = post(f"{api.url}/predict", drive)
        expect(page.locator(".probability")).to_have_text(percent(answer["probability"]))
        shown = page.locator("body").inner_text().lower()
        assert not re.search("patient|heart|coronary", shown)
        assert barriers(page) == []


def test_the_report_of_a_batch_opens_or_with_a_key_is_saved(
    browser: Browser, page: Page, running: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    choose(page, SAMPLE)
    page.get_by_role("button", name="Score 13 rows").click()
    sent = batch_id(page)

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Report").click()
    report = opened.value
    expect(report.get_by_role("heading", name=f"Batch {sent}")).to_be_visible()
    expect(report.get_by_role("img", name="Histogram of scores")).to_be_visible()
    assert barriers(report) == []
    shown = report.content()

    storage = {"AZURE_STORAGE_CONNECTION_STRING": running.connection_string}
    keyed = running_api(artifact_dir, tmp_path / "log", SCORER_API_KEYS="secret-1", **storage)
    with keyed as api, page_of(browser, api.url) as page_with_key:
        page_with_key.goto(f"/#batch={sent}")
        page_with_key.get_by_label("API key").fill("secret-1")
        page_with_key.get_by_role("button", name="Continue").click()

        saved = downloaded(page_with_key, "Report").decode()

    assert f"Batch {sent}" in saved
    assert saved.count("<svg") == shown.count("<svg") > 10


@pytest.mark.parametrize("recipe", [wine.MODEL, diabetes.MODEL], ids=["classes", "value"])
def test_the_page_shows_the_answers_of_another_kind_of_model(
    recipe: Recipe, browser: Browser, connection_string: str, tmp_path: Path
) -> None:
    model, file = tmp_path / "model", tmp_path / "records.csv"
    train(recipe, model, progress=lambda _: None)
    names, rows = recipe.table.used_names, recipe.load(None).rows.tolist()
    lines = [names, *rows[::3], [-1, *rows[0][1:]]]
    file.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    env = {"SCORER_MODEL_DIR": str(model), "SCORER_QUEUE": f"page-{recipe.name}"}

    with (
        services(connection_string, tmp_path, env=env | {"SCORER_IDLE_SECONDS": "0.3"}) as started,
        page_of(browser, started.api_url) as page,
    ):
        page.goto("/")
        page.get_by_role("button", name="Every field").click()
        _, about = get(f"{started.api_url}/model")
        record = json.loads(about)["examples"][0]["record"]
        _, answer = post(f"{started.api_url}/predict", record)
        expect(page.locator(".probability")).to_have_text(in_brief(recipe, answer))
        for name in recipe.classes:
            expect(page.get_by_role("row", name=re.compile(f"{name} .*%"))).to_be_visible()
        assert barriers(page) == []
        texts = [page.locator("body").inner_text()]

        choose(page, file)
        page.get_by_role("button", name=f"Score {len(lines) - 1} rows").click()
        expect(page.locator(".badge.succeeded")).to_be_visible()
        expect(page.get_by_role("row", name=re.compile("must be from 0"))).to_be_visible()
        texts.append(page.locator("body").inner_text())

        with page.expect_popup() as opened:
            page.get_by_role("link", name="Report").click()
        report = opened.value
        expect(report.get_by_role("img", name="Histogram of scores")).to_be_visible()
        assert barriers(report) == []
        texts.append(report.locator("body").inner_text())

    assert not re.search("patient|heart|coronary|disease", " ".join(texts).lower())


def in_brief(recipe: Recipe, answer: dict[str, Any]) -> str:
    """An answer as the page shows it."""
    if recipe.kind == "classes":
        return str(answer["prediction"])
    return f"{answer['prediction']:.6g} {recipe.unit}"


def test_clients_other_than_browsers_get_an_index_of_links(running: Running) -> None:
    status, body = get(f"{running.api_url}/")

    links = json.loads(body)
    assert status == 200
    assert {"/predict", "/batches", "/model", "/docs"} <= set(map(str, links.values()))
