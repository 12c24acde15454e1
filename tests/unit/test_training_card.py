"""The figures, the curves and the model card."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from shared.records.artifact import Manifest
from training.blocks import Section, Table
from training.evaluation import rounded
from training.figures import (
    at_threshold,
    bands,
    calibration_groups,
    figures,
    intervals,
    net_benefit,
    roc,
    similar_scores,
    wilson,
)
from training.heart.model import MODEL
from training.report import markdown, page, summary
from training.train import Trained, run

ROOT = Path(__file__).parents[2]


@cache
def trained() -> Trained:
    return run(MODEL, None, 1, lambda _: None)


def html() -> str:
    return trained().files["model_card.html"].decode()


class Tags(HTMLParser):
    """Counts elements left open and collects what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        links = (str(v) for k, v in attrs if k in ("src", "href", "data", "srcset"))
        self.fetched += [link for link in links if not link.startswith("#")]
        if tag in ("script", "link", "iframe", "object"):
            self.fetched.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_complete_and_fetches_nothing() -> None:
    tags = Tags(html())

    assert tags.open == []
    assert tags.fetched == []
    assert "@import" not in html()
    assert "url(" not in html()


def test_the_page_opens_with_key_figures_and_whom_it_is_for() -> None:
    figures = trained().manifest.figures
    opening, _, rest = html().partition('<nav class="contents"')

    assert f"{figures['rows']}</dd>" in opening
    assert f"{figures['cross_validated']['auc']:.2f}</dd>" in opening
    assert f"{figures['cross_validated']['accuracy'] * 100:.0f} %</dd>" in opening
    assert "Intended use" in opening
    assert "Intended use" not in rest


def test_the_contents_lead_to_every_other_section() -> None:
    linked = re.findall(r'<li><a href="#([^"]+)">', html())
    sections = re.findall(r'<section><h2 id="([^"]+)">', html())

    assert linked == sections[1:]


def test_every_picture_is_well_formed_and_stays_inside_its_frame() -> None:
    pictures = re.findall(r"<svg.*?</svg>", html(), re.DOTALL)

    assert len(pictures) == 5 + len(MODEL.table.used)
    for picture in pictures:
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own text
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert root.attrib["aria-label"]
        for element in root.iter():
            points = element.attrib.get("points", "").replace(",", " ").split()
            for place, number in enumerate(map(float, points)):
                assert -0.5 <= number <= (width, height)[place % 2] + 0.5, picture[:200]


def test_the_card_has_its_sections_in_order() -> None:
    titles = re.findall(r"^## (.*)$", trained().card, re.MULTILINE)

    assert titles == re.findall(r'<section><h2 id="[^"]+">(.*?)</h2>', html())
    assert titles == [
        "Intended use",
        "Setting and dates",
        "Eligibility",
        "Outcome",
        "Predictors",
        "Missing data",
        "Sample size",
        "Specification",
        "Performance",
        "Field sets",
        "Thresholds",
        "Subgroups",
        "Importance",
        "Effect of each field",
        "Limits",
        "Licence and citation",
        "Origin",
    ]
    assert set(MODEL.prose) <= set(titles)
    assert "not a medical device" in trained().card.splitlines()[2]


def test_the_coefficients_of_the_card_give_the_golden_answer() -> None:
    # From the text alone, as a reader with a pocket calculator would.
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in trained().card.splitlines()
        if line.startswith("| ")
    ]
    start = next(i for i, row in enumerate(rows) if row[0] == "intercept")
    patient = MODEL.table.read(MODEL.golden[1])
    values = dict(zip(MODEL.table.by_name, patient.values, strict=True))

    logit = float(rows[start][3])
    for name, mean, sd, weight, *_ in rows[start + 1 : start + 21]:
        if mean:
            logit += float(weight) * (values[name] - float(mean)) / float(sd)
        elif "=" in name:
            field, level = name.split(" = ")
            logit += float(weight) * (values[field] == float(level))
        else:
            field, level = name.split(" ≥ ")
            logit += float(weight) * (values[field] >= float(level))

    assert 1 / (1 + np.exp(-logit)) == pytest.approx(0.981183, abs=1e-4)


def test_figures_in_the_prose_are_true() -> None:
    found = trained().manifest.figures
    data = MODEL.load(None)
    women = found["subgroups"]["women"]
    full = MODEL.estimator().fit(data.rows, data.outcome, sets=[0, 504])

    assert round(women["n"] * women["observed"]) == 25
    assert women["sensitivity"] < 0.75
    assert full.coefficients_[0, 0] == 0
    assert full.coefficients_[504, 0] > 0


def test_the_card_of_the_repository_is_of_this_model() -> None:
    # Made by `python -m training --repeats 20 --card MODEL_CARD.md`.
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert trained().manifest.files["model.onnx"] in card


def test_words_cannot_break_the_page() -> None:
    manifest = trained().manifest.model_copy(update={"title": "<b>a & b</b>", "notice": '"<i>'})
    parts = [Section("1 < 2", ("`x<y` & z", Table(("a|b",), (("<td>",),))))]

    text = page(manifest, parts)

    assert "<code>x&lt;y</code> &amp; z" in text
    assert "&lt;td&gt;" in text
    assert "<b>" not in text
    assert "| a\\|b |" in markdown(manifest, parts)


def test_a_run_ends_with_a_summary_of_its_figures() -> None:
    found = trained().manifest.figures

    lines = [line.split() for line in summary(trained().manifest).splitlines()]

    low, high = (f"{end:.3f}" for end in found["intervals"]["auc"])
    assert ["AUC", f"{found['cross_validated']['auc']:.3f}", low, "to", high] in lines
    sets = next(line for line in lines if line[:4] == ["without", "ca", "and", "thal"])
    assert sets[4] == f"{found['field_sets']['without ca and thal']['auc']:.3f}"
    [women] = [line for line in lines if line[:1] == ["women"]]
    assert women[1] == str(found["subgroups"]["women"]["n"])
    thresholds = [line[0] for line in lines if line[:1] in (["0.2"], ["0.5"], ["0.7"])]
    assert thresholds == ["0.2", "0.5", "0.7"]


def test_figures_are_numbers_that_json_knows() -> None:
    manifest = Manifest.model_validate_json(trained().manifest.model_dump_json())

    assert manifest.figures == trained().manifest.figures
    assert rounded({"a": [np.nan, (0.12345678, 3)]}) == {"a": [None, [0.123457, 3]]}


OUTCOME = np.array([0, 0, 1, 1])
PREDICTED = np.array([[0.1, 0.6, 0.4, 0.9], [0.1, 0.2, 0.8, 0.9]])


def test_thresholds_and_bands_count_patients() -> None:
    found = at_threshold(OUTCOME, PREDICTED, 0.5)

    assert found["sensitivity"] == 0.75
    assert found["specificity"] == 0.75
    assert found["ppv"] == 0.75
    assert found["npv"] == 0.75
    assert [one["observed"] for one in bands(OUTCOME, PREDICTED, (0.3, 0.7))] == [0, 0.5, 1]
    assert sum(one["share"] for one in bands(OUTCOME, PREDICTED, (0.3, 0.7))) == 1


def test_net_benefit_weighs_false_alarms_by_the_odds() -> None:
    found = net_benefit(OUTCOME, PREDICTED, 0.5)

    assert found == {"threshold": 0.5, "model": 3 / 8 - 1 / 8, "everyone": 0.0}


def test_intervals_hold_the_figure_and_narrow_with_more_patients() -> None:
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, 400)
    predicted = np.clip(outcome * 0.3 + rng.uniform(0, 0.7, (3, 400)), 0, 1)

    few = intervals(outcome[:50], predicted[:, :50], 0.5)
    many = intervals(outcome, predicted, 0.5)

    main = figures(outcome, predicted, 0.5)
    for name, (low, high) in many.items():
        assert low < main[name] < high, name
        assert high - low < few[name][1] - few[name][0], name


def test_wilson_knows_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_curves_run_from_corner_to_corner_and_groups_hold_everybody() -> None:
    curve = roc(OUTCOME, PREDICTED)
    groups = calibration_groups(OUTCOME, PREDICTED)

    assert curve[0] == (0, 0)
    assert curve[-1] == (1, 1)
    assert all(a[1] <= b[1] for a, b in pairwise(curve))
    assert sum(group["n"] for group in groups) == 4


def test_groups_of_similar_scores_cover_every_score_and_hold_everybody_once() -> None:
    rng = np.random.default_rng(2)
    predicted = rng.uniform(size=(2, 103))
    outcome = (rng.uniform(size=103) < predicted.mean(axis=0)).astype(np.int64)

    groups = similar_scores(outcome, predicted)

    assert [group["low"] for group in groups] == [0, *(group["high"] for group in groups[:-1])]
    assert groups[-1]["high"] == 1
    assert sum(group["n"] for group in groups) == 103
    assert sum(group["positive"] for group in groups) == outcome.sum()
    for group in groups:
        low, high = group["interval"]
        assert low < group["observed"] < high


@pytest.mark.slow
def test_regenerating_the_card_of_the_repository_changes_nothing() -> None:
    again = run(MODEL, None, 20, lambda _: None).card

    # Versions and hashes follow, which differ between machines.
    found = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert found.split("## Origin")[0] == again.split("## Origin")[0]
