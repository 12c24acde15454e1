"""The report shows what a profile says, in words and charts, and runs nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from shared.batches.differences import differences, number, percent
from shared.batches.report import report_page
from shared.records.artifact import Artifact
from shared.testing import run_virtually
from tests.api_client import FakeStorage, a_client
from tests.builders import a_csv, a_patient
from tests.unit.test_profile import Row, profile_of, resampled
from tests.unit.test_profile import trained as trained
from tests.world import World


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def summary_of(profile: dict[str, Any], **changes: object) -> dict[str, Any]:
    times = dict.fromkeys(("sent", "started", "finished"), "2026-11-28T10:00:00.000Z")
    codes: dict[str, int] = {}
    for one in profile["rejections"]:
        codes[one["code"]] = codes.get(one["code"], 0) + one["rows"]
    kept = {key: profile[key] for key in ("batch_id", "identity", "plan", "model", "rows")}
    return kept | {"times": times, "warnings": [], "rejections": codes, "profile": {}} | changes


def sentences(artifact: Artifact, rows: list[Row]) -> str:
    return "\n".join(differences(profile_of(artifact, rows)))


def test_missing_values_are_reported_with_both_shares(trained: Artifact) -> None:
    rows = [row | ({"chol": ""} if i % 5 < 2 else {}) for i, row in enumerate(resampled(1000))]

    assert "`chol` is missing in 40 % of rows, in training in 0 %" in sentences(trained, rows)


def test_an_older_population_is_reported_in_years(trained: Artifact) -> None:
    rows = [row | {"age": float(str(row["age"])) + 9} for row in resampled(1000)]

    assert "Patients are 9 years older: `age` is on average 63" in sentences(trained, rows)


def test_a_code_that_became_more_frequent_is_named_with_its_word(trained: Artifact) -> None:
    rows = [row | {"cp": 3} for row in resampled(1000)]

    told = sentences(trained, rows)

    assert "`cp` is 3 (asymptomatic) in 100 % of rows with a value, in training in 47 %" in told


def test_values_outside_the_training_range_are_reported(trained: Artifact) -> None:
    rows = [
        row | ({"trestbps": 220} if i % 10 == 0 else {}) for i, row in enumerate(resampled(900))
    ]

    told = sentences(trained, rows)

    assert "`trestbps` is outside the training range (94 to 200 mm Hg) in 10 % of rows" in told


def test_a_batch_like_training_differs_in_nothing(trained: Artifact) -> None:
    assert sentences(trained, resampled(1000)) == ""


def test_the_page_shows_every_field_and_says_that_nothing_differs(trained: Artifact) -> None:
    profile = profile_of(trained, resampled(1000))

    page = Page(report_page(summary_of(profile), profile))

    assert page.elements.count("svg") == 1 + len(profile["fields"])
    assert all(field["title"] in page.text for field in profile["fields"])
    assert "distributed like the 303 rows of training" in page.text


def test_rejected_rows_are_listed_with_field_reason_and_numbers(trained: Artifact) -> None:
    profile = profile_of(trained, [*resampled(100), a_patient(age=None), a_patient(age=None)])

    text = Page(report_page(summary_of(profile), profile)).text

    assert "a required value is missing" in text
    assert "101, 102" in text


def test_the_page_runs_and_loads_nothing_and_escapes_every_name(trained: Artifact) -> None:
    profile = profile_of(trained, resampled(100))
    bad = "<script>alert(1)</script>\"' onload=x"
    profile["fields"][0] |= {"name": bad, "title": bad, "unit": bad}
    profile["fields"][2]["choices"] = [[code, bad] for code, _ in profile["fields"][2]["choices"]]
    profile["rejections"] = [{"code": bad, "field": bad, "rows": 1, "first_rows": [1]}]
    profile["other_coding"] = {"rows": 1, "signs": [{"field": bad, "coding": bad}]}
    identity = {"container": bad, "blob": bad, "etag": bad}
    summary = summary_of(profile, batch_id=bad, identity=identity, warnings=[bad, f"`{bad}`"])

    page = Page(report_page(summary, profile))

    assert "script" not in page.elements
    assert not {"src", "href", "style"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    policy = dict(page.attributes)["content"]
    assert policy is not None
    assert page.text.count(bad) >= 8


def test_a_batch_without_a_profile_has_a_page_that_says_why(trained: Artifact) -> None:
    async def scene() -> dict[str, Any]:
        world = World(trained)
        await world.submit("small", a_csv(a_patient(), a_patient(age=None)))
        await world.emptied()
        return world.summary("small")

    text = Page(report_page(run_virtually(scene()), None)).text

    assert "small batches get one only if it is asked for" in text
    assert "missing_required" in text


@pytest.mark.parametrize("count", [0, 1, 60])
def test_any_batch_has_a_page(trained: Artifact, count: int) -> None:
    profile = profile_of(trained, a_csv(*resampled(count)))

    assert "Scores" in Page(report_page(summary_of(profile), profile)).text


def test_a_model_without_a_reference_is_named(artifact: Artifact) -> None:
    manifest = artifact.manifest.model_copy(update={"reference": None})
    profile = profile_of(Artifact(manifest, artifact.sha256, artifact.model), resampled(100))

    text = Page(report_page(summary_of(profile), profile)).text

    assert "Nothing was compared with training" in text


def test_the_api_serves_the_page_with_a_strict_policy(trained: Artifact) -> None:
    storage = FakeStorage()
    client = a_client(trained, storage.connect)
    batch_id = client.post(
        "/batches?profile=true", content=a_csv(*resampled(80)), headers={"Content-Type": "text/csv"}
    ).json()["batch_id"]
    assert client.get(f"/batches/{batch_id}/report").status_code == 409

    async def work() -> None:
        world = World(trained)
        world.blobs, world.queue = storage.blobs, storage.queue
        await world.emptied()

    run_virtually(work())
    answer = client.get(f"/batches/{batch_id}/report")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    assert Page(answer.text).elements.count("svg") > 10
    assert client.get("/batches/nobody/report").status_code == 404


def test_numbers_are_written_for_people() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.003, 0.41, 1)] == [
        "0 %",
        "0 %",
        "0.3 %",
        "41 %",
        "100 %",
    ]
    assert [number(value) for value in (0.123456, 42.0, 123456.0)] == ["0.123", "42", "123,456"]
    assert re.fullmatch(r"[0-9.]+", number(1.5))
