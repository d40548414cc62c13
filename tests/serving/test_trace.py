"""One trace from the search to the training example, and the lines that the log has of a search."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from structlog.testing import capture_logs

from headrace.services.ports import free_port
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import InvalidEvent
from schemas.events import Impression, ShownItem, Tick
from schemas.examples import TrainingExample
from schemas.log import scan_raw
from schemas.posteriors import SnapshotPointer
from schemas.topics import EXAMPLES, IMPRESSIONS, INPUTS, SNAPSHOTS, VIEWS
from schemas.tracing import span, trace_id
from schemas.views import View
from streams.attribution.core import AttributionCore
from streams.rewarding.core import RewardingCore
from streams.runtime.core import Record
from streams.settings import AttributionSettings

Serve = Callable[..., AbstractContextManager[Any]]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
BROKER_MS = 4_000_000_000_000  # no event is of the future


class Irrelevant:
    """Every item has tier 0."""

    version = "none"

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        return np.zeros(len(rows), np.int8), np.ones(len(rows), np.float32)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged, with what is bound."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as found:
        yield found


def example_of(impression: bytes, catalogue: Catalogue) -> TrainingExample:
    """An impression through the cores of attribution and rewarding, after its click window has closed without a click."""
    rules, posterior = AttributionSettings(), PosteriorSettings()
    shown: Impression = decode(Impression, impression)
    later = encode(Tick(shown.ts + (rules.click_window_s + rules.lateness_s + 2) * 1_000))
    attribution = AttributionCore(0, rules)
    for topic in INPUTS:
        values = [impression, later] if topic is IMPRESSIONS else [later]
        attribution.apply(topic.name, [Record(n, BROKER_MS, b"u", value) for n, value in enumerate(values)])
    attribution.advance()
    (view,) = [o.value for o in attribution.drain()[0] if o.topic == VIEWS.name and b'"view_id"' in o.value]
    emitted: View = decode(View, view)
    every = posterior.snapshot_every_s * 1_000
    pointer = SnapshotPointer(1, (emitted.emitted_at - 1) // every * every, "p", "c", 0, 0)
    rewarding = RewardingCore(0, catalogue, Irrelevant(), lambda _: PosteriorSnapshot.prior(posterior), posterior)
    rewarding.apply(SNAPSHOTS.name, [Record(0, BROKER_MS, b"1", encode(pointer))])
    rewarding.apply(VIEWS.name, [Record(0, BROKER_MS, b"u", view)])
    rewarding.advance()
    (example,) = [o.value for o in rewarding.drain()[0] if o.topic == EXAMPLES.name]
    found: TrainingExample = decode(TrainingExample, example)
    return found


@pytest.mark.services
def test_a_trace_goes_from_the_request_to_the_training_example(
    serve: Serve, shop: Any, fresh_topics: Connections, lines: list[Any]
) -> None:
    """The caller's traceparent as it came, where nobody records spans; without one, each search begins a trace. The line that
    each search writes has the same one."""
    with serve(fresh_topics) as server:
        server.wait_ready()
        for name, header in (("r1", {"traceparent": PARENT}), ("r2", {}), ("r3", {"traceparent": "00-nonsense"})):
            sent = {"X-Request-Id": name, "X-Headrace-Time": str(shop.world.end_ms), **header}
            assert server.http.get("/search", params={"q": "mug", "user": "ann"}, headers=sent).status_code == 200
    logged = {decode(Impression, raw).request_id: raw for *_, raw in scan_raw(fresh_topics, IMPRESSIONS)}
    examples = {name: example_of(raw, shop.world.catalogue) for name, raw in logged.items()}
    assert examples["r1"].trace == PARENT and trace_id(examples["r1"].trace) == TRACE
    begun = {trace_id(examples[name].trace) for name in ("r2", "r3")}
    assert len(begun - {"", TRACE}) == 2
    told = {line["request_id"]: line["trace_id"] for line in lines if line["event"] == "search"}
    assert told == {name: trace_id(example.trace) for name, example in examples.items()}
    assert not any(line.get("path") == "/readyz" for line in lines) and "mug" not in str(lines)


@pytest.mark.services
def test_lines_about_a_search_name_its_request_and_trace(serve: Serve, shop: Any, redis_url: str, lines: list[Any]) -> None:
    """A broken bound, a search without a model: each is a line with both ids, and without what was searched for."""
    with serve(Connections(kafka=f"127.0.0.1:{free_port()}", redis=redis_url)) as server:
        for name, query in (("bad", "secret " * 100), ("early", "secret mug")):
            sent = {"X-Request-Id": name, "X-Headrace-Time": "5", "traceparent": PARENT}
            server.http.get("/search", params={"q": query, "user": "ann"}, headers=sent)
        server.http.post("/click", params={"user": "", "item": "a", "request_id": "page"})
    told = [line for line in lines if line["event"] == "request refused"]
    assert [(line["request_id"], line.get("trace_id"), line["status"], line["path"]) for line in told] == [
        ("bad", TRACE, 422, "/search"), ("early", TRACE, 503, "/search"), ("page", None, 422, "/click"),
    ]  # fmt: skip
    assert "at most 200 characters" in told[0]["reason"] and "no checkpoint is loaded yet" in told[1]["reason"]
    assert "secret" not in str(lines)


def test_a_traceparent_over_its_bound_is_invalid() -> None:
    """64 characters are enough for every version there is; 65 go to quarantine, and none at all is no trace."""
    shown = (ShownItem("a", 1),)
    good = Impression(5, "r", "u", "q", shown, trace="x" * 64)
    assert decode(Impression, encode(good)) == good
    with pytest.raises(InvalidEvent, match="64"):
        decode(Impression, encode(Impression(5, "r", "u", "q", shown, trace="x" * 65)))
    assert decode(Impression, encode(Impression(5, "r", "u", "q", shown)).replace(b'"trace":"",', b"")).trace == ""


def test_spans_below_a_parent_share_its_trace_where_nobody_records() -> None:
    """A valid context is handed on as it is; new ones differ, and are valid."""
    with span("search", PARENT) as carried:
        assert carried == PARENT
    fresh = set()
    for wrong in ("", "00-nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01"):
        with span("search", wrong) as carried:
            fresh.add(trace_id(carried))
            assert len(carried) == len(PARENT) and carried.endswith("-01")
    assert len(fresh - {""}) == 3


EXPORT = f"""
import sys
from headrace.tracing import configure_tracing
from schemas.codec import encode
from schemas.examples import TrainingExample
from schemas.topics import EXAMPLES
from schemas.tracing import span
from schemas.views import ViewStatus
from streams.rewarding.traces import tell_traces
from streams.runtime.core import Output

configure_tracing(sys.argv[1], "headrace-test")
with span("search", "{PARENT}", request_id="r1") as carried:
    pass
for trace in (carried, ""):
    example = TrainingExample("r1:final:2", "r1", ViewStatus.FINAL, 2, 1, 2, "u", "secret", (), "", 0, trace=trace)
    tell_traces([Output(EXAMPLES.name, b"u", encode(example)), Output("other", b"u", b"no json")])
"""


def test_spans_reach_the_collector_that_is_set() -> None:
    """A process that names this test's collector: `search` below the caller's span, and the example below `search`."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            command = [sys.executable, "-c", EXPORT, f"http://127.0.0.1:{collector.server_port}/"]
            env = {"PYTHONPATH": ":".join(filter(None, sys.path)), "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
            done = subprocess.run(command, env=env, timeout=120, capture_output=True, text=True, check=False)
        finally:
            collector.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr
    spans = {}
    for path, body in received:
        assert path == "/v1/traces" and b"secret" not in body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans |= {one.name: one for scope in resource.scope_spans for one in scope.spans}
    assert {one.trace_id.hex() for one in spans.values()} == {TRACE} and set(spans) == {"search", "training.example"}
    assert spans["search"].parent_span_id.hex() == "00f067aa0ba902b7"
    assert spans["training.example"].parent_span_id == spans["search"].span_id
    assert {a.key: a.value.string_value for a in spans["training.example"].attributes} == {
        "example_id": "r1:final:2", "request_id": "r1",
    }  # fmt: skip
