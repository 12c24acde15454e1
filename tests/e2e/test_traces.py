"""One trace from a request to the API to the batch's summary, as a collector receives it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.local import Running, services
from tests.collector import CollectedSpan, Collector, http_collector
from tests.e2e.client import get

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FILE = b"patient_id,age,sex\nJane-Roe-77,54,female\nJohn-Doe-78,91337,male\n"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with http_collector() as started:
        yield started


@pytest.fixture(scope="module")
def traced(
    collector: Collector,
    connection_string: str,
    artifact_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    env = {
        "SCORER_MODEL_DIR": str(artifact_dir),
        "SCORER_IDLE_SECONDS": "0.3",
        "SCORER_QUEUE": "traced",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "127.0.0.1",
    }
    with services(connection_string, tmp_path_factory.mktemp("traced"), env=env) as started:
        yield started


def post_file(api: Running, content: bytes) -> str:
    """Submit a file as a caller that traces; returns the batch's id."""
    headers = {"Content-Type": "text/csv", "traceparent": f"00-{TRACE}-{SENDER}-01"}
    request = urllib.request.Request(f"{api.api_url}/batches", content, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["batch_id"])


def spans_of_trace(collector: Collector, last: str) -> dict[str, CollectedSpan]:
    """The spans by name, once the last one has arrived."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        found = {span.name: span for span in collector.spans if span.trace == TRACE}
        if last in found and "POST /batches" in found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {last} among {[span.name for span in collector.spans]}")


def test_one_trace_leads_from_the_request_to_the_summary(
    traced: Running, collector: Collector
) -> None:
    get(f"{traced.api_url}/livez")
    batch_id = post_file(traced, FILE)

    spans = spans_of_trace(collector, "process batch")

    request, submission = spans["POST /batches"], spans["submit batch"]
    batch = spans["process batch"]
    assert (request.service, request.parent) == ("heart-scorer-api", SENDER)
    assert submission.parent == request.id
    assert (batch.service, batch.parent) == ("heart-scorer-worker", submission.id)
    steps = {"read block", "score block", "commit scores", "write summary"}
    assert {name for name, span in spans.items() if span.parent == batch.id} == steps
    assert request.attributes["http.response.status_code"] == 202
    named = (submission, batch, spans["commit scores"], spans["write summary"])
    assert {span.attributes["batch.id"] for span in named} == {batch_id}
    scored = spans["score block"].attributes
    assert (scored["rows"], scored["rejected"]) == (2, 1)
    assert batch.attributes["settlement"] == "delete"
    assert not any("/livez" in span.name for span in collector.spans)


def test_no_span_holds_a_value_of_a_patient(traced: Running, collector: Collector) -> None:
    post_file(traced, FILE)

    spans_of_trace(collector, "process batch")

    sent = "".join(span.whole for span in collector.spans)
    assert "process batch" in sent
    assert not [value for value in ("Jane", "John", "91337", "female") if value in sent]
