"""Spans: the duration of each step of a request or a batch, in one trace across both apps.

They are sent if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Otherwise neither the OpenTelemetry SDK nor
an exporter is loaded. All other `OTEL_*` variables are OpenTelemetry's own.
Attributes are ids of batches, counts and names of ours, never a value of a record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol, Self

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

Attributes = Mapping[str, str | int]
Kind = Literal["server", "producer", "consumer", "internal"]
"""Spans of a server or consumer begin a process's part of the trace; others are children."""


class Span(Protocol):
    """A measured step."""

    @property
    def traceparent(self) -> str | None:
        """To be sent with what the step sends. None while tracing is off."""

    def set(self, attributes: Attributes) -> None: ...

    def rename(self, name: str) -> None: ...


class Tracer(Protocol):
    """Starts spans."""

    def __call__(
        self, name: str, kind: Kind, parent: str | None, attributes: Attributes | None
    ) -> AbstractContextManager[Span]: ...


class Off:
    """Every span while tracing is off."""

    traceparent = None

    def set(self, attributes: Attributes) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


OFF = Off()
_tracer: Tracer | None = None


def configure(service: str) -> None:
    """Send spans from now on if an endpoint is set; once in a process, before the work begins."""
    global _tracer
    if not os.environ.get(ENDPOINT):
        return
    try:
        from shared.otel import start_tracer
    except ImportError as error:
        log.warning(
            "traces_off",
            extra={
                "reason": f"{ENDPOINT} is set and {error.name} is not installed: "
                "build the image with OTEL=otel, or install heart-scorer[otel]"
            },
        )
        return
    _tracer = start_tracer(service)


def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> AbstractContextManager[Span]:
    """Measure a `with` block. `parent` is the sender's traceparent, for a server or a consumer."""
    if _tracer is None:
        return OFF
    return _tracer(name, kind, parent, attributes)
