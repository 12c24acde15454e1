"""Spans of one process: off unless asked for, and sent by either protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.api_process import ROOT
from tests.collector import Collector, grpc_collector, http_collector

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def run(code: str, **env: str) -> str:
    """The output of a fresh interpreter; its log goes to standard error, which is printed, too."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
        env=clean | {"NO_PROXY": "127.0.0.1"} | env,
    )
    return done.stdout


@pytest.mark.parametrize("app", ["api", "worker"])
def test_neither_sdk_nor_exporter_is_loaded_while_traces_are_off(app: str) -> None:
    code = f"""
import sys, {app}.__main__
from shared import tracing
tracing.configure("{app}")
with tracing.span("step", "server", parent="00-{TRACE}-{SENDER}-01") as span:
    span.set({{"rows": 1}})
    print(span.traceparent)
loaded = ("opentelemetry.sdk", "opentelemetry.exporter", "grpc", "google", "shared.otel")
print([name for name in loaded if name in sys.modules])
"""

    assert run(code, OTEL_EXPORTER_OTLP_ENDPOINT="") == "None\n[]\n"


def test_an_image_without_the_exporter_works_and_says_how_to_get_it() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from shared import tracing
from shared.logs import configure_logging
configure_logging("info")
tracing.configure("api")
with tracing.span("step"):
    print("works")
"""

    printed = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")

    assert "works" in printed
    assert "traces_off" in printed
    assert "OTEL=otel" in printed


@pytest.mark.parametrize(
    ("protocol", "collecting"),
    [("http/protobuf", http_collector), ("grpc", grpc_collector)],
)
def test_spans_are_sent_by_either_protocol_at_the_latest_at_the_exit(
    protocol: str, collecting: Callable[[], AbstractContextManager[Collector]]
) -> None:
    code = f"""
from shared import tracing
tracing.configure("worker")
try:
    with tracing.span("outer", "consumer", parent="00-{TRACE}-{SENDER}-01") as span:
        print(span.traceparent)
        with tracing.span("inner", attributes={{"rows": 7}}):
            raise ValueError("chol 9999 of a patient")
except ValueError:
    pass
"""

    with collecting() as collector:
        printed = run(
            code,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )

    inner, outer = collector.spans
    assert (inner.name, outer.name) == ("inner", "outer")
    assert (outer.trace, outer.parent) == (TRACE, SENDER)
    assert (inner.trace, inner.parent) == (TRACE, outer.id)
    assert printed == f"00-{TRACE}-{outer.id}-01\n"
    assert inner.service == "worker"
    assert inner.attributes == {"rows": 7, "error.type": "ValueError"}
    assert "9999" not in inner.whole + outer.whole


def test_the_variables_of_opentelemetry_apply() -> None:
    code = """
from shared import tracing
tracing.configure("worker")
with tracing.span("step"):
    pass
"""

    with http_collector() as collector:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        run(code, **endpoint, OTEL_SERVICE_NAME="ward-worker")
        run(code, **endpoint, OTEL_TRACES_SAMPLER="always_off")
        run(code, **endpoint, OTEL_SDK_DISABLED="true")

    assert [span.service for span in collector.spans] == ["ward-worker"]
