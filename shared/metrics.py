"""All metrics: base units, labels of few values, never an id.

Ours begin with `heart_scorer_`; the time of HTTP requests keeps OpenTelemetry's name. Each process
exports its own: `api_registry` and `worker_registry` say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from shared import __version__
from shared.records.errors import CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter and histogram has a second series, `_created`

PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OUTCOMES = ("scored", "rejected")
SETTLEMENTS = ("delete", "fail", "release", "leave")
STATUSES = ("succeeded", "failed", "cancelled")
PROFILE_ROWS = 200
"""Scored rows from which the profile of a batch is shown."""


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"heart_scorer_{name}", text, labels, registry=None)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"heart_scorer_{name}", text, labels, registry=None)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"heart_scorer_{name}", text, labels, buckets=buckets, registry=None)


class BatchScores(Collector):
    """Histogram of the probabilities of batches, counted a block at a time."""

    def __init__(self) -> None:
        self._counts = [0] * (len(PROBABILITIES) + 1)
        self._sum = 0.0

    def observe(self, probabilities: NDArray[np.float32]) -> None:
        """Count the probabilities of a block; those that are not finite are not scores."""
        finite = probabilities[np.isfinite(probabilities)]
        # The first limit that is not below, compared as float32.
        places = np.searchsorted(np.array(PROBABILITIES, np.float32), finite)
        for place, number in enumerate(np.bincount(places, minlength=len(self._counts))):
            self._counts[place] += int(number)
        self._sum += float(finite.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        total, buckets = 0, []
        for limit, number in zip((*map(str, PROBABILITIES), "+Inf"), self._counts, strict=True):
            total += number
            buckets.append((limit, total))
        yield HistogramMetricFamily(
            "heart_scorer_batch_probability",
            "Probabilities of scored batch rows",
            buckets=buckets,
            sum_value=self._sum,
        )


# Of both processes.
BUILD_INFO = _gauge("build_info", "Version of the running heart-scorer", "version")
MODEL_INFO = _gauge("model_info", "The loaded model", "version", "sha256")
STARTUP = _gauge("startup_seconds", "Seconds from process start until ready")
ROWS = _counter("rows", "Records that were scored or rejected", "source", "outcome")
REJECTIONS = _counter("rejections", "Rejected records by code", "code")
STORAGE = _histogram(
    "storage_request_duration_seconds",
    "Duration of calls to queue and blobs, including the SDK's retries, by outcome",
    "operation",
    "outcome",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)

# Of the API.
REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "Time to answer HTTP requests",
    ["http_request_method", "http_route", "http_response_status_code"],
    registry=None,
)
PROBABILITY = _histogram("probability", "Probabilities returned to requests", buckets=PROBABILITIES)

# Of the worker.
READY = _gauge("worker_ready", "1 while storage answers and permits all required calls")
SLOTS = _gauge("slots", "Maximum of concurrent messages of this worker")
IN_PROGRESS = _gauge("messages_in_progress", "Messages in progress on this worker")
WAITING = _gauge("messages_waiting", "Waiting messages of the whole queue")
OLDEST = _gauge("oldest_message_age_seconds", "Age of the oldest waiting message, or 0")
POISON_MESSAGES = _gauge("poison_messages", "Messages in the poison queue")
LAST_SUCCESS = _gauge(
    "last_success_timestamp_seconds", "Time of the last batch that this worker finished, or 0"
)
BATCHES = _counter("batches", "Batches that this worker finished", "status")
MESSAGES = _histogram(
    "message_duration_seconds",
    "Time to work on a message, by settlement",
    "settlement",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800),
)
AGE = _histogram(
    "message_age_seconds",
    "Age of messages when they are received",
    buckets=(0.1, 1, 5, 10, 60, 300, 1800, 7200, 86400),
)
REDELIVERIES = _counter("redeliveries", "Received messages that were delivered before")
POISON = _counter("poisoned", "Messages copied to the poison queue", "reason")
IGNORED = _counter("events_ignored", "Ignored events that name no batch", "reason")
BATCH_ROWS = _histogram(
    "batch_rows", "Rows of finished batches", buckets=(1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7)
)
BATCH_SCORES = BatchScores()
FIELD_PSI = _gauge(
    "field_psi",
    "Population stability index of a field against training, in the last batch with a profile",
    "field",
)

_BOTH = (BUILD_INFO, MODEL_INFO, STARTUP, ROWS, REJECTIONS, STORAGE)
_API = (REQUESTS, PROBABILITY)
_WORKER = (
    *(READY, SLOTS, IN_PROGRESS, WAITING, OLDEST, POISON_MESSAGES, LAST_SUCCESS),
    *(BATCHES, MESSAGES, AGE, REDELIVERIES, POISON, IGNORED, BATCH_ROWS, BATCH_SCORES),
    FIELD_PSI,
)


def api_registry() -> CollectorRegistry:
    """The metrics that the API exports. Counters exist from the start."""
    _create_rows("api", "v2")
    return _registry(*_BOTH, *_API)


def worker_registry() -> CollectorRegistry:
    """The metrics that the worker exports. Counters exist from the start."""
    _create_rows("batch")
    for status in STATUSES:
        BATCHES.labels(status)
    for settlement in SETTLEMENTS:
        MESSAGES.labels(settlement)
    return _registry(*_BOTH, *_WORKER)


def _create_rows(*sources: str) -> None:
    BUILD_INFO.labels(__version__).set(1)
    for source in sources:
        for outcome in OUTCOMES:
            ROWS.labels(source, outcome)
    for code in CODES:
        REJECTIONS.labels(code)


def _registry(*collectors: MetricWrapperBase | Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def observe_profile(profile: Mapping[str, Any]) -> None:
    """Show how far a batch's fields are from training; of few rows chance alone shifts them."""
    if profile["rows"]["scored"] < PROFILE_ROWS:
        return
    for field in profile["fields"]:
        if field["psi"] is not None:
            FIELD_PSI.labels(field["name"]).set(field["psi"])


def observe_score(probability: float | None) -> None:
    """Count the probability of one score; None: its kind of answer has none."""
    if probability is not None:
        PROBABILITY.observe(probability)


def count_rows(source: str, scored: int, codes: Mapping[str, int], rejected: int) -> None:
    """Count records of one request or block; `codes` are rejected records by code."""
    ROWS.labels(source, "scored").inc(scored)
    if rejected:
        ROWS.labels(source, "rejected").inc(rejected)
        for code, number in codes.items():
            REJECTIONS.labels(code).inc(number)
