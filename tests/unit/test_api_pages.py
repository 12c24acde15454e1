"""The pages for people, and the files that they load."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest

from api.problems import KINDS
from shared.records.artifact import Artifact
from tests.api_client import a_client


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


def test_the_template_is_a_file_that_is_scored(artifact: Artifact) -> None:
    client = a_client(artifact)

    answer = client.get("/template.csv")

    assert answer.headers["content-type"].startswith("text/csv")
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert list(row)[1:] == [field.name for field in artifact.manifest.fields.fields]
    record = artifact.manifest.fields.read_cells(row, row["patient_id"])
    assert not any(map(math.isnan, record.values))


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
