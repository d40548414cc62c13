"""Exactly once on a real broker, whatever happens to the worker: compared byte by byte with an undisturbed core."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from headrace.process import Process
from headrace.services.ports import free_port
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.events import Tick
from schemas.topics import IMPRESSIONS, INPUTS, QUARANTINE, VIEWS
from schemas.views import View
from streams.accounting import accounted, records, standing, totals
from streams.attribution.core import AttributionCore
from streams.producing import EventProducer
from streams.runtime.core import Record
from streams.runtime.log import LogReader
from streams.ticks import send_tick
from tests.streams.attribution_worker import RULES
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.event_log import START, event_log
from tests.streams.scraping import scrape

pytestmark = pytest.mark.services


def undisturbed(connections: Connections, topic: str) -> list[list[tuple[bytes | None, bytes]]]:
    """What a core says that reads the inputs straight through, per partition."""
    reader, answers = LogReader(connections, 20), []
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
    """One worker, no trouble: everything committed equals the plain core, and SIGTERM ends it with 0 before any of its bounds."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(1, 600):
            send(topic, partition, raw)
    one = worker()
    caught_up(fresh_topics)
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    check(fresh_topics)
    said = one.log.read_text()
    assert "worker ends" in said and "in time" not in said and "Traceback" not in said


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_the_output_identical(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Killed five times, while it recovers, joins or writes, under a steady flow of events; snapshots are taken on the
    way and replayed from."""
    rng, log = random.Random(5), event_log(2, 2_000)
    parts = [log[at : at + len(log) // 5] for at in range(0, len(log), len(log) // 5)]

    def flow(part: Sequence[tuple[str, int, bytes]]) -> None:
        with feeder(fresh_topics) as send:
            for n, (topic, partition, raw) in enumerate(part):
                send(topic, partition, raw)
                if n % 20 == 0:
                    time.sleep(20 * 2.4 / len(part))  # the whole of it in some 2.4 s

    def read() -> int:
        return sum(sum(commit.next_offsets.values()) for commit in standing(fresh_topics))

    one = worker()
    for round_, part in enumerate(parts):
        before, thread = read(), Thread(target=flow, args=(part,))
        thread.start()  # by the worker's time, not the clock's: on a slow machine a flow of its own would be over too early
        if round_ != 2:  # once before it has come to recover
            one.ready()
        while round_ in (0, 3, 4) and read() == before:  # and three times when it has written
            assert one.process.poll() is None, one.log.read_text()[-3_000:]
            time.sleep(0.05)
        time.sleep(0.8 * rng.random())
        one.kill()
        thread.join()
        one = worker()
    caught_up(fresh_topics)
    one.ready()  # SIGTERM before its handlers are there would end it at once
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    check(fresh_topics)
    replayed = [int(n) for n in re.findall(r"replayed=(\d+)", one.log.read_text())]
    assert sum(n > 0 for n in replayed) >= 2  # the kills did hit a state worth recovering


def test_a_second_worker_joins_and_leaves_and_a_paused_one_wakes_up_to_find_its_partitions_gone(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Partitions move to the second worker and back; then the first is stopped past its session while the second takes
    over, and woken: it is fenced or sees that its commits are not the last, and nothing comes out twice. A fenced worker ends,
    and is started again as by whoever supervises it."""
    log = event_log(3, 1_200)
    step = len(log) // 4
    with feeder(fresh_topics) as send:

        def feed(part: int) -> None:
            for topic, partition, raw in log[part * step : (part + 1) * step if part < 3 else None]:
                send(topic, partition, raw)

        one = worker("one")
        feed(0)
        one.ready()
        two = worker("two")
        two.ready()
        feed(1)
        time.sleep(2)
        assert two.stop() == 0 or two.fenced, two.log.read_text()[-3_000:]
        feed(2)
        time.sleep(1)
        one.process.send_signal(signal.SIGSTOP)
        third = [worker("three")]
        feed(3)
        third[-1].ready()

    def supervise() -> None:
        if third[-1].fenced:
            third.append(worker("three"))

    caught_up(fresh_topics, meanwhile=supervise)
    one.process.send_signal(signal.SIGCONT)
    time.sleep(3)
    with EventProducer(fresh_topics) as producer:
        assert send_tick(producer, 2, START + 10_000_000) == 6
    caught_up(fresh_topics, meanwhile=supervise)
    assert third[-1].stop() == 0 or third[-1].fenced, third[-1].log.read_text()[-3_000:]
    one.kill()
    check(fresh_topics)


def test_an_input_far_ahead_of_the_others_waits_in_the_broker_not_in_memory(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Page views of 500 s without a click or an order: with 20 s allowed the worker stops a little past them, and when the others
    come it goes on to the same end."""
    log = event_log(10, 2_000)
    with feeder(fresh_topics) as send:
        for topic, partition, raw in log:
            if topic == IMPRESSIONS.name:
                send(topic, partition, raw)
    one = worker(AHEAD_S="20")
    one.ready()
    time.sleep(3)
    taken = [commit.next_offsets[IMPRESSIONS.name] for commit in standing(fresh_topics) if commit.agent == "attribution"]
    ends = [LogReader(fresh_topics, 20).bounds(IMPRESSIONS.name, p)[1] for p in range(2)]
    assert sum(taken) < sum(ends) / 2
    with feeder(fresh_topics) as send:
        for topic, partition, raw in log:
            if topic != IMPRESSIONS.name:
                send(topic, partition, raw)
    caught_up(fresh_topics)
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    check(fresh_topics)


def test_windows_are_changed_on_a_running_system_by_a_stop_and_a_start(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Stopped half-way and started with a click window of 7 s instead of 30 s: it goes on from the state it left, every view comes
    out once, those still open by the new window, and no record is lost."""
    log = event_log(11, 1_200)
    halves = log[: len(log) // 2], log[len(log) // 2 :]
    for half, window in zip(halves, ("30", "7"), strict=True):
        one = worker(CLICK_WINDOW_S=window, SNAPSHOT_RECORDS="1000000")
        with feeder(fresh_topics) as send:
            for topic, partition, raw in half:
                send(topic, partition, raw)
        caught_up(fresh_topics)
        one.ready()
        assert one.stop() == 0, one.log.read_text()[-3_000:]
    counters = totals(fresh_topics)["attribution"]
    assert accounted(counters) == records(fresh_topics, tuple(t.name for t in INPUTS))
    views = [msgspec.json.decode(value, type=View | Tick) for p in committed(fresh_topics, VIEWS.name) for _, value in p]
    first = Counter(v.request_id for v in views if isinstance(v, View) and v.status == "provisional")
    assert len(first) == counters["impressions"] and set(first.values()) == {1}
    lags = [v.emitted_at - v.ts for v in views if isinstance(v, View) and v.status == "provisional"]
    assert min(lags) <= 8_000 < 30_000 <= max(lags)


@pytest.mark.slow
def test_a_broker_that_is_away_for_a_while_is_waited_for(
    own_broker: Process, own_connections: Connections, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Stopped for 20 s in the middle: the worker neither ends nor loses or doubles anything."""
    create_topics(own_connections)
    log = event_log(4, 800)
    one = Worker(
        own_connections, unique("attribution"), tmp_path / "worker.log", {"INSTANCE": "one", "TRANSACTION_TIMEOUT_S": "60"}
    )
    try:
        with feeder(own_connections) as send:
            for topic, partition, raw in log[: len(log) // 2]:
                send(topic, partition, raw)
        one.ready()
        time.sleep(2)
        own_broker.stop()
        time.sleep(20)
        own_broker.start()
        with feeder(own_connections) as send:
            for topic, partition, raw in log[len(log) // 2 :]:
                send(topic, partition, raw)
        caught_up(own_connections)
        assert one.process.poll() is None, one.log.read_text()[-3_000:]
        assert one.stop() == 0, one.log.read_text()[-3_000:]
    finally:
        one.kill()
    check(own_connections)


def test_a_worker_whose_broker_is_away_ends_at_sigterm_all_the_same(
    own_broker: Process, own_connections: Connections, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """The broker is paused while views wait to be written, and not woken before the worker has ended: the next start makes them
    again."""
    create_topics(own_connections)
    with feeder(own_connections) as send:
        for topic, partition, raw in event_log(4, 800):
            send(topic, partition, raw)
    port = free_port()
    env = {"STOP_TIMEOUT_S": "1", "LINGER_MS": "10000", "METRICS_PORT": str(port)}
    one = Worker(own_connections, unique("attribution"), tmp_path / "worker.log", env)
    try:
        one.ready()
        while not any(name == "headrace_unsent_outputs" and value for (name, *_), value in scrape(port).items()):
            assert one.process.poll() is None, one.log.read_text()[-3_000:]
            time.sleep(0.02)
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGSTOP)
        assert one.stop() == 1
        assert "the last flush did not end in time" in one.log.read_text()
    finally:
        one.kill()
        os.kill(own_broker.pid or 0, signal.SIGCONT)


def test_a_replay_that_does_not_come_to_the_committed_counters_ends_the_worker(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Another click window after the snapshot was taken: the state would not be the committed one, so it refuses."""
    one, log = worker(SNAPSHOT_RECORDS="1000000"), event_log(6, 300)
    for half in (log[: len(log) // 2], log[len(log) // 2 :]):  # the first commit of a state takes a snapshot
        with feeder(fresh_topics) as send:
            for topic, partition, raw in half:
                send(topic, partition, raw)
        caught_up(fresh_topics)
    one.kill()
    two = worker(SNAPSHOT_RECORDS="1000000", CLICK_WINDOW_S="7")
    assert two.process.wait(120) == 1
    said = two.log.read_text()
    assert "settings of attribution" in said and "needs a snapshot at the switch" in said
