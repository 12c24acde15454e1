"""The pages for people, and the files that they load."""

from __future__ import annotations

import pytest

from api.problems import KINDS
from api.routes import pages
from shared.records.artifact import Artifact
from tests.api_client import a_client


def test_the_page_of_problems_has_a_place_for_each(artifact: Artifact) -> None:
    page = a_client(artifact).get("/problems").text

    assert [code for code in KINDS if f"id='{code}'" not in page] == []


@pytest.mark.parametrize("name", ["..%2fapp.py", "%2e%2e%2fapp.py", "app.py", "docs", "..", "x.js"])
def test_static_files_are_only_those_of_the_pages(artifact: Artifact, name: str) -> None:
    assert a_client(artifact).get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("docs.js", "text/javascript"),
        ("page.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("redoc.standalone.js", "text/javascript"),
        ("favicon.png", "image/png"),
    ],
)
def test_what_pages_load_comes_from_here(artifact: Artifact, name: str, media_type: str) -> None:
    answer = a_client(artifact).get(f"/static/{name}")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)


def test_redocs_own_picture_is_taken_from_here(artifact: Artifact) -> None:
    bundle = (pages._bundles() / pages.REDOC).read_bytes()
    assert pages.ELSEWHERE.search(bundle)

    assert not pages.ELSEWHERE.search(a_client(artifact).get(f"/static/{pages.REDOC}").content)
