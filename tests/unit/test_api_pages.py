"""The pages for people, and the files that they load."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import openpyxl
import pytest
from starlette.testclient import TestClient

from api.problems import KINDS
from shared.files.formats import Format
from shared.files.options import Options
from shared.records.artifact import Artifact
from shared.records.scoring import Scorer
from tests.api_client import a_client
from tests.builders import score_file
from tests.fakes_model import FakeModel
from training.template import workbook


def test_the_page_of_problems_has_a_place_for_each(artifact: Artifact) -> None:
    page = a_client(artifact).get("/problems").text

    assert [code for code in KINDS if f'id="{code}"' not in page] == []


@pytest.mark.parametrize(
    "name", ["..%2fapp.py", "%2e%2e%2fapp.py", "app.py", "docs", "%2e%2e", "x.js", "home.html"]
)
def test_static_files_are_only_those_of_the_pages(artifact: Artifact, name: str) -> None:
    assert a_client(artifact).get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("docs.js", "text/javascript"),
        ("page.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("home.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_what_pages_load_comes_from_here(artifact: Artifact, name: str, media_type: str) -> None:
    answer = a_client(artifact).get(f"/static/{name}")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)


@pytest.mark.parametrize(
    "accept", ["text/html,application/xhtml+xml,*/*;q=0.8", "application/json, text/html"]
)
def test_a_browser_gets_the_page(artifact: Artifact, accept: str) -> None:
    answer = a_client(artifact).get("/", headers={"Accept": accept})

    assert answer.headers["content-type"].startswith("text/html")
    assert "Accept" in answer.headers["vary"].split(", ")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0"])
def test_others_get_links_that_exist(artifact: Artifact, accept: str) -> None:
    client = a_client(artifact)

    answer = client.get("/", headers={"Accept": accept})

    assert answer.headers["content-type"] == "application/json"
    for link in answer.json().values():
        assert client.get(link).status_code != 404, link


@pytest.mark.parametrize("path", ["/", "/docs", "/model-card", "/problems"])
def test_a_page_has_the_header_and_marks_where_it_is(artifact: Artifact, path: str) -> None:
    text = a_client(artifact).get(path, headers={"Accept": "text/html"}).text

    links = re.findall(r'<a href="([^"]*)"(?: aria-current="(page)")?>[A-Z]', text)
    here = path.lstrip("/") or "./"
    assert links[:4] == [
        (link, "page" if link == here else "") for link in ("./", "model-card", "docs", "problems")
    ]


def with_workbook(artifact: Artifact, directory: Path) -> TestClient:
    """A client of the artifact with its workbook, as training writes it."""
    content = workbook(artifact.manifest)
    (directory / "template.xlsx").write_bytes(content)
    files = {"template.xlsx": hashlib.sha256(content).hexdigest()}
    manifest = artifact.manifest.model_copy(update={"files": files})
    return a_client(Artifact(manifest, artifact.sha256, artifact.model), model_dir=directory)


def test_an_artifact_without_the_workbook_says_so(artifact: Artifact) -> None:
    manifest = artifact.manifest.model_copy(update={"files": {}})
    client = a_client(Artifact(manifest, artifact.sha256, artifact.model))

    answer = client.get("/template.xlsx")

    assert answer.status_code == 404
    assert "/template.csv" in answer.json()["error"]


def test_both_templates_are_files_that_are_scored_alike(artifact: Artifact, tmp_path: Path) -> None:
    client = with_workbook(artifact, tmp_path)
    kinds: tuple[Format, ...] = ("csv", "xlsx")
    scorer = Scorer(FakeModel(), artifact.manifest.fields, artifact.manifest.answer_kind)

    answers = {kind: client.get(f"/template.{kind}") for kind in kinds}

    assert answers["csv"].headers["content-type"].startswith("text/csv")
    assert answers["csv"].text.startswith("# your own id,18 to 110 years,female or male,")
    results = [
        score_file(kind, answer.content, options=Options(output="jsonl"), scorer=scorer).lines
        for kind, answer in answers.items()
    ]
    assert results[0] == results[1]
    [row] = results[0]
    assert (row["patient_id"], row["error"]) == ("example-1", None)


def test_the_workbook_offers_words_and_checks_limits(artifact: Artifact, tmp_path: Path) -> None:
    content = with_workbook(artifact, tmp_path).get("/template.xlsx").content

    book = openpyxl.load_workbook(io.BytesIO(content))
    records, choices = book.worksheets

    header = [cell.value for cell in records[2]]
    assert header[1:] == [field.name for field in artifact.manifest.fields.fields]
    checks = {str(c.sqref).split(":")[0]: c for c in records.data_validations.dataValidation}
    age, sex = (checks[f"{'ABC'[header.index(name)]}3"] for name in ("age", "sex"))
    assert (age.type, age.formula1, age.formula2) == ("decimal", "18", "110")
    words = choices[sex.formula1.partition("!")[2].replace("$", "")]
    assert [cell.value for [cell] in words] == ["female", "male"]
    assert choices.sheet_state == "hidden"


def test_the_model_comes_with_records_to_try(artifact: Artifact) -> None:
    client = a_client(artifact)
    about = client.get("/model").json()

    assert about["record_id"] == "patient_id"
    assert [example["title"] for example in about["examples"]] == [
        "Every field",
        "Highest score",
        "Few fields",
    ]
    for example in about["examples"]:
        assert client.post("/predict", json=example["record"]).status_code == 200
