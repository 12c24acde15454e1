"""Spans by OpenTelemetry's SDK, sent by OTLP. Imported only when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.tracing import Attributes, Kind, Span, Tracer

KINDS: dict[Kind, trace.SpanKind] = {
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
    "internal": trace.SpanKind.INTERNAL,
}
PROPAGATOR = TraceContextTextMapPropagator()


class RecordedSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier.get("traceparent")

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)


def start_tracer(service: str) -> Tracer:
    """Start to send, in a thread of the SDK's, which also sends what is left at the exit."""
    named = Resource.create({"service.name": service})
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    tracer = provider.get_tracer("heart-scorer")

    @contextmanager
    def start(
        name: str, kind: Kind, parent: str | None, attributes: Attributes | None
    ) -> Iterator[Span]:
        context = None
        if kind in ("server", "consumer"):
            context = PROPAGATOR.extract({"traceparent": parent or ""}, Context())
        with tracer.start_as_current_span(
            name,
            context,
            KINDS[kind],
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield RecordedSpan(span)
            except BaseException as error:
                # Only the type: the text of a foreign error could hold a value.
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(trace.StatusCode.ERROR)
                raise

    return start


def _exporter() -> SpanExporter:
    """The exporter of the chosen protocol; gRPC is the only one of Azure's agent."""
    common = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", common) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter()
