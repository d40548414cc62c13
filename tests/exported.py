"""The metrics that the processes export, from the registries that they fill."""

from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

#: What a family's samples are called, by its type.
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def families() -> list[Metric]:
    """Every metric family of workers, learner and server."""
    import streams.integrity.metrics
    import streams.keywords.metrics
    import streams.posteriors.metrics
    import streams.runtime.metrics  # noqa: F401 - all register with the default registry
    from serving.metrics import Metrics
    from trainers.exposition import Exposition

    return [
        family for registry in (REGISTRY, Metrics().registry, Exposition("", 0).registry) for family in registry.collect()
    ]


def named() -> dict[str, Metric]:
    """Headrace's own families, by the name that people use: a counter's with its ``_total``."""
    return {f.name + ("_total" if f.type == "counter" else ""): f for f in families() if f.name.startswith("headrace_")}


def samples() -> set[str]:
    """Every name that a query may ask for."""
    return {family.name + suffix for family in families() for suffix in SUFFIXES.get(family.type, ("",))}
