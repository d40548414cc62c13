"""W3C trace context as text: read from a request, carried in records, made into spans where somebody exports them.

A search's ``traceparent`` travels through impression and view into the training example, whether or not anybody records
spans. Without a tracer provider (`headrace.tracing`) every span here is one of OpenTelemetry's that do nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    format_trace_id,
    get_current_span,
    get_tracer,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()
_HEADER = "traceparent"


def read(traceparent: str) -> Context:
    """The context that a traceparent names; an empty one when it is none."""
    return _W3C.extract({_HEADER: traceparent}, Context())


def written(context: SpanContext) -> str:
    """The traceparent of a span's context."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(NonRecordingSpan(context), Context()))
    return carrier[_HEADER]


def trace_id(traceparent: str) -> str:
    """The 32 hex digits that logs and trace viewers show; empty when it is no traceparent."""
    context = get_current_span(read(traceparent)).get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


def recording() -> bool:
    """Whether spans go anywhere in this process."""
    return not isinstance(get_tracer_provider(), ProxyTracerProvider)


@contextmanager
def span(name: str, traceparent: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: str) -> Iterator[str]:
    """A span below ``traceparent`` (a new trace where that is none). Yields the traceparent to hand on.

    Nobody records: what came in is handed on as it is, and a new trace gets ids all the same. Exceptions are not put into
    the span: their text may name what a person searched for.
    """
    with get_tracer("headrace").start_as_current_span(
        name, read(traceparent), kind, attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        yield written(_context_of(current))


def _context_of(current: Span) -> SpanContext:
    context = current.get_span_context()
    if context.is_valid:
        return context
    # Odd numbers: ids of zero are invalid.
    ids = secrets.randbits(128) | 1, secrets.randbits(64) | 1
    return SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
