"""Metrics: one prefix, counters from the start, each process its own."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shared import metrics


def text_of(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


@pytest.mark.parametrize("registry", [metrics.api_registry, metrics.worker_registry])
def test_names_have_one_prefix_and_no_birthdays(registry: object) -> None:
    text = text_of(registry())  # type: ignore[operator]

    names = {line.split("{")[0].split()[0] for line in text.splitlines() if line[:1] != "#"}
    assert {
        n for n in names if not n.startswith(("heart_scorer_", "http_server_", "process_"))
    } == (set())
    assert not [name for name in names if name.endswith("_created")]


def test_each_process_exports_its_own() -> None:
    api, worker = text_of(metrics.api_registry()), text_of(metrics.worker_registry())

    assert "heart_scorer_messages_waiting" in worker
    assert "heart_scorer_messages_waiting" not in api
    assert "# TYPE http_server_request_duration_seconds histogram" in api
    assert "http_server_request_duration_seconds" not in worker


def test_counters_exist_before_anything_happens() -> None:
    worker = text_of(metrics.worker_registry())

    assert 'heart_scorer_batches_total{status="failed"}' in worker
    assert 'heart_scorer_rejections_total{code="out_of_range"}' in worker
    assert 'heart_scorer_rows_total{outcome="rejected",source="batch"}' in worker


def test_the_scores_of_a_block_are_counted_at_once() -> None:
    scores = metrics.BatchScores()

    scores.observe(np.array([0.05, 0.1, 0.35, 1.0, np.nan], np.float32))

    [family] = scores.collect()
    counts = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("bucket")
    }
    assert (counts["0.1"], counts["0.3"], counts["0.4"], counts["1.0"]) == (2, 2, 3, 4)
    assert counts["+Inf"] == 4
