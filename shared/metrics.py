"""All metrics, in base units, with labels of few values and never an id."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "Time to answer HTTP requests",
    ["http_request_method", "http_route", "http_response_status_code"],
)
ROWS = Counter("inference_rows", "Records that were scored or rejected", ["source", "outcome"])
REJECTIONS = Counter("inference_rejections", "Rejected records by code", ["code"])
PROBABILITY = Histogram(
    "inference_probability",
    "Probabilities that single requests were answered with",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
MODEL_INFO = Gauge("model_info", "The model that is loaded", ["version", "sha256"])
STARTUP = Gauge("startup_seconds", "Seconds from process start until ready")
MESSAGES = Histogram(
    "messaging_process_duration_seconds",
    "Time to work on a message, by what became of it",
    ["outcome"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800),
)
AGE = Histogram(
    "queue_message_age_seconds",
    "Age of messages when they are received",
    buckets=(0.1, 1, 5, 10, 60, 300, 1800, 7200, 86400),
)
REDELIVERIES = Counter("queue_redeliveries", "Messages received that were delivered before")
POISON = Counter("queue_poison", "Messages copied to the poison queue", ["reason"])
IGNORED = Counter("queue_ignored", "Events that are none of ours", ["reason"])
BATCH_ROWS = Histogram(
    "batch_rows", "Rows of finished batches", buckets=(1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7)
)


def count_rows(source: str, scored: int, codes: Mapping[str, int], rejected: int) -> None:
    """Count records of one request or block; `codes` are rejected records by code."""
    ROWS.labels(source, "scored").inc(scored)
    if rejected:
        ROWS.labels(source, "rejected").inc(rejected)
        for code, number in codes.items():
            REJECTIONS.labels(code).inc(number)
