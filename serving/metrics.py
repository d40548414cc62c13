"""What the server counts, in a registry of its own; `/metrics` prints it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.items import REFUSED

#: Upper bounds of the latency buckets (s).
LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One server's metrics; units are in the names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(REFUSED)
        self.seconds = Histogram(
            "headrace_search_seconds", "from request to answer", buckets=LATENCY_S, registry=self.registry
        )
        self.requests = Counter("headrace_search_requests", "searches by HTTP status", ["status"], registry=self.registry)
        self.batch = Histogram(
            "headrace_search_batch_requests", "requests in one pass of the model", buckets=BATCHES, registry=self.registry
        )
        self.swaps = Counter(
            "headrace_served_swaps", "checkpoint, weights, snapshot, items exchanged", ["what"], registry=self.registry
        )
        self.refused = Counter("headrace_served_refused", "news that could not be used", ["what"], registry=self.registry)
        self.step = Gauge("headrace_served_step", "training step of the served checkpoint", registry=self.registry)
        self.weights = Gauge("headrace_served_weights_version", "active reward weights", registry=self.registry)
        self.snapshot = Gauge("headrace_served_snapshot_version", "posterior snapshot in use", registry=self.registry)
        self.items = Gauge("headrace_served_items", "items in catalogue and trie", registry=self.registry)
        self.clicks = Counter("headrace_history_clicks", "clicks written into user histories", registry=self.registry)
        self.orders = Counter("headrace_history_orders", "orders written into user histories", registry=self.registry)
        self.unreadable = Counter(
            "headrace_history_unreadable_records",
            "records of the topics of clicks and orders passed over",
            ["reason"],
            registry=self.registry,
        )
        self.no_history = Counter(
            "headrace_history_unavailable", "searches answered without the user's history", registry=self.registry
        )
        self.truncated = Counter(
            "headrace_search_query_truncated",
            "searches whose query was longer than the policy's prompt takes",
            registry=self.registry,
        )
        self.pools = Counter(
            "headrace_search_pools",
            "pages whose candidates were written for the preview",
            ["outcome"],
            registry=self.registry,
        )
