"""Bad input, quarantine, ticks and lag against a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import Event, Thread

import msgspec
import pytest
from confluent_kafka import Producer

from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.events import Click, Impression, ShownItem, Tick
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ORDERS, VIEWS
from streams import quarantine
from streams.accounting import accounted, records, totals
from streams.lag import lags
from streams.producing import EventProducer
from streams.ticks import run_ticks
from tests.streams.conftest import Worker, caught_up, committed
from tests.streams.event_log import START

pytestmark = pytest.mark.services

VIEW = Impression(START, "r1", "u", "shoes", (ShownItem("a", 1), ShownItem("b", 2)))
TEN_YEARS = 10 * 365 * 86_400_000


def bad_input() -> dict[str, tuple[str, bytes]]:
    """Reason -> (topic, record): everything a shop could send by mistake."""
    raw = json.loads(msgspec.json.encode(VIEW))
    far = {**raw, "request_id": "r9", "ts": int(time.time() * 1_000) + TEN_YEARS}
    return {
        "unreadable": (IMPRESSIONS.name, b'{"type":"impression","ts":1'),
        "unknown_version": (IMPRESSIONS.name, json.dumps({**raw, "v": 9}).encode()),
        "invalid": (IMPRESSIONS.name, json.dumps({**raw, "items": [{"item": "a", "position": -1}]}).encode()),
        "unknown_request": (CLICKS.name, msgspec.json.encode(Click(START, "u", "a", "r-nobody"))),
        "too_large": (IMPRESSIONS.name, json.dumps({**raw, "session": "x" * 5_000_000}).encode()),
        "future": (IMPRESSIONS.name, json.dumps(far).encode()),
        "late": (CLICKS.name, msgspec.json.encode(Click(START - TEN_YEARS, "u", "a"))),
        "not_shown": (CLICKS.name, msgspec.json.encode(Click(START, "u", "c", "r1"))),
        "no_click": (ORDERS.name, b'{"type":"order","ts":%d,"user":"u","item":"a","order_id":"o1"}' % START),
        "unknown_order": (ORDERS.name, b'{"type":"return","ts":%d,"user":"u","order_id":"o9"}' % START),
    }


def test_each_kind_of_bad_input_has_its_own_reason_and_stops_nothing(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Ten broken records, each in quarantine with its reason and its bytes; the good view between them comes out."""
    producer = Producer({"bootstrap.servers": fresh_topics.kafka, "message.max.bytes": 8_000_000})
    for topic in INPUTS:
        producer.produce(topic.name, msgspec.json.encode(Tick(START)), partition=0)
    producer.produce(IMPRESSIONS.name, msgspec.json.encode(VIEW), b"u", partition=0)
    bad = bad_input()
    for topic, raw in bad.values():
        producer.produce(topic, raw, b"u", partition=0)
    for topic in INPUTS:
        for partition in (0, 1):
            producer.produce(topic.name, msgspec.json.encode(Tick(START + 1_000_000)), partition=partition)
    assert producer.flush(30) == 0
    one = worker()
    caught_up(fresh_topics)

    entries = quarantine.listing(fresh_topics)
    assert sorted(e.record.reason for e in entries) == sorted(bad)
    for entry in entries:
        topic, raw = bad[entry.record.reason]
        assert (entry.record.topic, entry.record.raw, entry.record.size) == (topic, raw[:64_000], len(raw))
    counters = totals(fresh_topics)["attribution"]
    assert {name: n for name, n in counters.items() if name.startswith("quarantined.")} == {
        f"quarantined.{r}": 1 for r in bad
    }
    assert accounted(counters) == records(fresh_topics, tuple(t.name for t in INPUTS))
    assert [raw for _, raw in committed(fresh_topics, VIEWS.name)[0] if b'"view_id":"r1:provisional:1"' in raw]
    assert [lag.lag for lag in lags(fresh_topics)] == [0, 0]

    name = next(e.id for e in entries if e.record.reason == "unknown_request")
    assert "r-nobody" in quarantine.show(fresh_topics, name) and "sent again" not in quarantine.show(fresh_topics, name)
    lines = quarantine.scan(fresh_topics)
    assert [(line.id, line.reason) for line in lines] == [(e.id, e.record.reason) for e in entries]
    assert quarantine.replay(fresh_topics, [quarantine.by_id(lines, name)]) == 1
    caught_up(fresh_topics)
    assert totals(fresh_topics)["attribution"]["quarantined.late"] == 2  # by now its window is long over
    assert "sent again at 20" in quarantine.show(fresh_topics, name)
    plan = quarantine.plan(quarantine.scan(fresh_topics))
    assert ([line.id for line in plan.before], [line.reason for line in plan.cut], len(plan.send)) == (
        [name], ["too_large"], len(bad) + 1 - 2,
    )  # fmt: skip
    with pytest.raises(InvalidRequest, match="7-1"):
        quarantine.show(fresh_topics, "7-1")
    assert one.stop() == 0


def test_the_sender_of_a_record_over_the_limit_sees_the_error(fresh_topics: Connections) -> None:
    """Our own clients refuse 5 MB before the broker does."""
    with pytest.raises(InvalidRequest, match="5000000"), EventProducer(fresh_topics) as producer:
        producer.send(IMPRESSIONS.name, b"x" * 5_000_000)


def test_ticks_go_to_every_partition_of_every_input(fresh_topics: Connections) -> None:
    """Each of the six partitions gets one after the other, never falling, none twice, and none after the stop."""

    def times() -> list[list[int]]:
        logged = [partition for topic in INPUTS for partition in committed(fresh_topics, topic.name)]
        return [[msgspec.json.decode(raw, type=Tick).ts for _, raw in partition] for partition in logged]

    stop, deadline = Event(), time.monotonic() + 60
    thread = Thread(target=run_ticks, args=(fresh_topics, stop, 0.1))
    thread.start()
    try:
        while min(len(partition) for partition in times()) < 3:
            assert time.monotonic() < deadline, times()
    finally:
        stop.set()
        thread.join(60)
    sent = times()
    assert all(partition == sorted(set(partition)) for partition in sent)
    time.sleep(0.3)
    assert times() == sent
