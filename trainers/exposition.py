"""The learner's metrics for Prometheus: what the journal says of the last step, and running counts."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server


class Exposition:
    """Metrics of one learner in a registry of its own; with port 0 nothing listens."""

    def __init__(self, port: int) -> None:
        self.registry = CollectorRegistry()
        self._last = Gauge("headrace_learner", "Metric of the last step", ["metric"], registry=self.registry)
        self._steps = Counter("headrace_learner_steps", "Steps taken by this process", registry=self.registry)
        self._fresh = Counter("headrace_learner_examples", "First-time views taken", registry=self.registry)
        self._gate = Counter("headrace_learner_gate", "Decisions of the gate", ["decision"], registry=self.registry)
        self._server = start_http_server(port, registry=self.registry) if port else None

    def step(self, metrics: Mapping[str, float], fresh: int) -> None:
        """A step was taken."""
        self._steps.inc()
        self._fresh.inc(fresh)
        for name, value in metrics.items():
            self._last.labels(name).set(value)

    def gate(self, promoted: bool) -> None:
        """The gate has decided."""
        self._gate.labels("promoted" if promoted else "kept").inc()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
