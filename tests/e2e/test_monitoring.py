"""The dashboard's queries and the rules' expressions against a real Prometheus."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.local import ROOT, Running, process
from tests.builders import a_patient
from tests.e2e.command import call
from tests.ports import free_port

pytestmark = pytest.mark.slow

DASHBOARD = ROOT / "monitoring/grafana/heart-scorer.json"
QUIET = {"Storage calls that failed, per second"}
"""Panels that are empty while all is well."""


@pytest.fixture
def prometheus(running: Running, tmp_path: Path) -> Iterator[str]:
    """Prometheus over the running services. Without it: skip here, fail where CI is set."""
    program = shutil.which("prometheus")
    if program is None:
        reason = "no prometheus: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    ports = {
        "heart-scorer-api": running.ports.api_metrics,
        "heart-scorer-worker": running.ports.worker,
    }
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in ports.items()
    ]
    config = tmp_path / "prometheus.yml"
    rules = str(ROOT / "monitoring/rules.yml")
    # JSON is YAML, too.
    settings = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.write_text(
        json.dumps({"global": settings, "rule_files": [rules], "scrape_configs": jobs})
    )
    port = free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(command, tmp_path / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"


def ask(url: str, path: str, **query: str) -> Any:
    address = f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:  # Prometheus is still starting
                raise
            raise AssertionError(f"{query}: {error.read().decode()}") from error


def wait_for(url: str, expression: str, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if ask(url, "query", query=expression)["result"]:
                return
        assert time.monotonic() < ends, f"{expression} has no value"
        time.sleep(0.2)


def queries() -> dict[str, list[str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}


def test_every_panel_of_the_dashboard_shows_something(
    prometheus: str, running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "patients.csv"
    file.write_text("age,sex\n" + "54,1\n61,0\n" * 120 + "999,1\n")
    wait_for(prometheus, "heart_scorer_messages_waiting")
    call(running, "submit", str(file), "--wait", "--profile")
    httpx.post(f"{running.api_url}/predict", json=a_patient()).raise_for_status()

    # A rate appears with the second scrape after a series began.
    for title, expressions in queries().items():
        if title not in QUIET:
            wait_for(prometheus, " or ".join(f"({e})" for e in expressions))


def test_the_rules_are_loaded_and_healthy(prometheus: str) -> None:
    wait_for(prometheus, "heart_scorer_worker_ready")
    ends = time.monotonic() + 60
    while True:
        [group] = ask(prometheus, "rules")["groups"]
        if all(rule["health"] != "unknown" for rule in group["rules"]):
            break
        assert time.monotonic() < ends, group
        time.sleep(0.2)

    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert {rule["name"] for rule in group["rules"]} == {
        "BatchesNotComing",
        "BatchPoisoned",
        "StorageRefused",
        "WorkerRestarting",
        "ScoreDistributionMoved",
        "FieldFarFromTraining",
    }
