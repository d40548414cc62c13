"""The learner's metrics for Prometheus: what the journal says of the last step, and running counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

from schemas.errors import Unavailable
from schemas.items import REFUSED
from trainers.whereabouts import NAMES


class Exposition:
    """Metrics of one learner in a registry of its own; with port 0 nothing listens."""

    def __init__(self, host: str, port: int) -> None:
        """Raises `Unavailable` when the port is taken, or ``host`` is no address of this machine."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(REFUSED)
        self._last = Gauge(
            "headrace_learner_step_value", "Each metric of the last step, in its own unit", ["metric"],
            registry=self.registry,
        )  # fmt: skip
        self._kept: dict[str, float] = {}
        self._stepped = Gauge(
            "headrace_learner_last_step_timestamp_seconds", "Wall time of the last step, since 1970", registry=self.registry
        )
        self._lag = Gauge("headrace_learner_lag_records", "Examples that no step has taken", registry=self.registry)
        self._steps = Counter("headrace_learner_steps", "Steps taken by this process", registry=self.registry)
        self._fresh = Counter("headrace_learner_examples", "First-time views taken", registry=self.registry)
        self._held = Gauge(
            "headrace_learner_held_seconds", "How long training has stood still for a broken log; 0: it does not",
            registry=self.registry,
        )  # fmt: skip
        self._aside = Counter(
            "headrace_learner_aside_records",
            "Examples put aside, their window of the log being broken",
            registry=self.registry,
        )
        self._alarm = Gauge(
            "headrace_learner_guard_seconds",
            "How long a guard has held publishing back; 0: it does not",
            ["guard"],
            registry=self.registry,
        )
        self._back = Counter(
            "headrace_learner_rollbacks", "Times a guard has sent training back to a checkpoint", registry=self.registry
        )
        self._gate = Counter("headrace_learner_gate", "Decisions of the gate", ["decision"], registry=self.registry)
        self._server = _listen(host, port, self.registry) if port else None

    def step(self, metrics: Mapping[str, float], fresh: int) -> None:
        """A step was taken."""
        self._steps.inc()
        self._fresh.inc(fresh)
        self._stepped.set_to_current_time()
        self._kept |= {name: value for name, value in metrics.items() if name in NAMES}
        self._last.clear()  # what this step does not say is not of the last step, but for what few steps say
        for name, value in {**self._kept, **metrics}.items():
            self._last.labels(name).set(value)

    def lag(self, records: int) -> None:
        """So many examples wait, in the log or in memory."""
        self._lag.set(records)

    def held(self, seconds: float) -> None:
        """Training stands still for so long; 0 when it goes on."""
        self._held.set(seconds)

    def aside(self, records: int) -> None:
        """So many examples were put aside."""
        self._aside.inc(records)

    def alarm(self, guard: str, since_ms: int | None) -> None:
        """A guard has been beyond its bound since then (wall time); None: it is within it. Counts on where no step is taken."""
        seconds = (lambda: 0.0) if since_ms is None else (lambda: max(0.0, time.time() - since_ms / 1000))
        self._alarm.labels(guard).set_function(seconds)

    def rolled_back(self) -> None:
        """A guard has sent training back."""
        self._back.inc()

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


def _listen(host: str, port: int, registry: CollectorRegistry) -> tuple[WSGIServer, Thread]:
    try:
        return start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        remedy = "set trainers.learner.metrics_port to a free one, metrics_host to an address of this machine"
        raise Unavailable(f"{host}:{port} for metrics", str(error), remedy) from error
