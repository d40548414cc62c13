"""Exporting spans: one provider a process, when an OTLP endpoint is set. Needs the extra ``headrace[tracing]``."""

from __future__ import annotations

from schemas.errors import InvalidSetting, Unavailable


def configure_tracing(endpoint: str, service: str) -> None:
    """Send this process's spans to ``endpoint`` (an OTLP/HTTP base URL) as ``service``; empty: export nothing.

    Spans leave in batches, from a thread; an endpoint that is away costs spans, never a search.

    Raises:
        InvalidSetting: the endpoint is no http or https URL.
        Unavailable: the extra is not installed.
    """
    if not endpoint:
        return
    if not endpoint.startswith(("http://", "https://")):
        raise InvalidSetting("tracing", endpoint, "an http:// or https:// URL", "name the collector, as http://host:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        remedy = "install headrace[tracing], or leave the setting `tracing` empty"
        raise Unavailable("OpenTelemetry's SDK", "the setting `tracing` asks for it", remedy) from error
    from opentelemetry.trace import set_tracer_provider

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    set_tracer_provider(provider)
