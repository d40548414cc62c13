"""Exactly once on a real broker, whatever happens to the worker: compared byte by byte with an undisturbed core."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.connections import Connections
from schemas.topics import INPUTS, QUARANTINE, VIEWS
from streams.accounting import accounted, records, totals
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.runtime.log import LogReader

sys.path.insert(0, str(Path(__file__).parent))
from attribution_worker import RULES
from conftest import Worker, caught_up, committed, feeder
from event_log import event_log

pytestmark = pytest.mark.services


def undisturbed(connections: Connections, topic: str) -> list[list[tuple[bytes | None, bytes]]]:
    """What a core says that reads the inputs straight through, per partition."""
    reader, answers = LogReader(connections.kafka, 20), []
    for p in range(connections.partitions):
        core, said = AttributionCore(p, RULES), []
        for t in INPUTS:
            logged: list[Record] = [r for b in reader.read(t.name, p, *reader.bounds(t.name, p)) for r in b]
            core.apply(t.name, logged)
        core.advance()
        said += [(o.key, o.value) for o in core.drain()[0] if o.topic == topic]
        answers.append(said)
    return answers


def check(connections: Connections) -> None:
    """Views equal in order, quarantine as a set, every input record accounted for."""
    assert committed(connections, VIEWS.name) == undisturbed(connections, VIEWS.name)
    got, want = committed(connections, QUARANTINE.name), undisturbed(connections, QUARANTINE.name)
    assert [Counter(p) for p in got] == [Counter(p) for p in want]
    counters = totals(connections)["attribution"]
    assert accounted(counters) == records(connections, tuple(t.name for t in INPUTS))
    assert counters["pending"] == 0
    assert counters["views.provisional"] == counters["impressions"] > 0


def test_views_come_out_exactly_once_and_sigterm_ends_cleanly(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """One worker, no trouble: everything committed equals the plain core, and it exits 0 within seconds of SIGTERM."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(1, 600):
            send(topic, partition, raw)
    one = worker()
    caught_up(fresh_topics)
    began = time.monotonic()
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    assert time.monotonic() - began < 6
    check(fresh_topics)
    assert "Traceback" not in one.log.read_text()


def test_kill_9_at_random_moments_leaves_the_output_identical(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Killed eight times while it works, started again each time; in between snapshots are taken and replayed."""
    rng, log = random.Random(5), event_log(2, 2_000)
    step = len(log) // 9
    with feeder(fresh_topics) as send:
        one = worker()
        for round_ in range(9):
            for topic, partition, raw in log[round_ * step : (round_ + 1) * step if round_ < 8 else None]:
                send(topic, partition, raw)
            if round_ < 8:
                time.sleep(0.3 + 2.2 * rng.random())
                one.kill()
                one = worker()
    caught_up(fresh_topics)
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    check(fresh_topics)
