"""monitoring/: the alerts by their own tests, and names that the code exports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from shared import metrics
from tests.readme import README

MONITORING = README.parent / "monitoring"


@pytest.fixture
def promtool() -> str:
    """Prometheus' own tool. Without it: skip here, fail where CI is set."""
    path = shutil.which("promtool")
    if path is None:
        reason = "no promtool: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["test", "rules", "scores_test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_accepts_the_rules_and_their_tests_hold(words: list[str], promtool: str) -> None:
    done = subprocess.run(
        [promtool, *words], cwd=MONITORING, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> set[str]:
    """Names of all series, without the ends that histograms and counters add."""
    registries = (metrics.api_registry(), metrics.worker_registry())
    return {family.name for registry in registries for family in registry.collect()}


def named(text: str) -> set[str]:
    names = re.findall(r"\b(?:heart_scorer|http_server)_[a-z0-9_]+", text)
    return {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in names}


@pytest.mark.parametrize(
    "file", ["rules.yml", "rules_test.yml", "scores_test.yml", "grafana/heart-scorer.json"]
)
def test_every_metric_that_is_named_exists(file: str) -> None:
    assert named((MONITORING / file).read_text()) <= exported()


def test_every_metric_of_ours_is_described_in_the_docs() -> None:
    page = (README.parent / "docs/operate.md").read_text()

    ours = {name for name in exported() if not name.startswith(("process", "python"))}
    assert ours - named(page) == set()


def test_every_alert_has_its_part_of_the_runbook() -> None:
    anchors = re.findall(r"runbook: docs/runbook.md#(\S+)", (MONITORING / "rules.yml").read_text())
    titles = re.findall(r"^## (.+)$", (README.parent / "docs/runbook.md").read_text(), re.MULTILINE)

    assert anchors
    assert set(anchors) <= {title.lower().replace(" ", "-") for title in titles}


def test_panels_have_places_of_their_own() -> None:
    dashboard = json.loads((MONITORING / "grafana/heart-scorer.json").read_text())

    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24
