"""Dirty delivery: nothing true is lost, every mishap is made and counted, and late means late."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.shop.delivery import Delivery
from headrace.shop.settings import DeliverySettings, DirtSettings
from headrace.shop.sink import partition_of
from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.events import Click, Impression, ItemAdded, Order, Return, ShownItem, Tick
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ITEMS, ORDERS, topic

HOUR = 3_600_000
CLEAN = dict.fromkeys(DirtSettings.model_fields, 0.0)


def _delivery(sink, **rates: float) -> Delivery:
    return Delivery(sink, DeliverySettings(dirt=DirtSettings(**{**CLEAN, **rates})), seed=1)


def _events(count: int, step_ms: int = 1_000) -> list:
    """A view, a click on it, an order, a return, again and again, of eight users."""
    events = []
    for n in range(count):
        ts, user = HOUR + n * step_ms, f"u{n % 8}"
        events.append(Impression(ts, f"r{n}", user, "lamp", (ShownItem("i1", 1),)))
        events.append(Click(ts + 1, user, "i1", f"r{n}", 1))
        events.append(Order(ts + 2, user, "i1", f"o{n}"))
        events.append(Return(ts + 3, user, f"o{n}"))
    return events


def _deliver(delivery: Delivery, events: list, every_ms: int = 60_000) -> None:
    stop = events[0].ts + every_ms
    for event in events:
        while event.ts > stop:
            delivery.advance(stop)
            stop += every_ms
        delivery.offer(event)
    delivery.drain(stop + HOUR)


def test_clean_delivery_sends_each_event_once_in_time_order_keyed_by_user(sink):
    events = _events(200)
    delivery = _delivery(sink)
    _deliver(delivery, events)
    true = [record for record in sink.records if record.key]
    assert Counter(record.value for record in true) == Counter(msgspec.json.encode(event) for event in events)
    assert all(record.partition == partition_of(record.key, 2) for record in true)
    assert sink.late(0) == []
    assert delivery.sent["impressions"] == delivery.sent["clicks"] == 200
    assert delivery.sent["orders"] == delivery.sent["returns"] == 200


def test_ticks_go_to_every_partition_of_every_input_after_what_is_before_them(sink):
    delivery = _delivery(sink)
    delivery.offer(Click(HOUR, "u1", "i1", "r1", 1))
    delivery.offer(Click(HOUR + 2, "u1", "i1", "r2", 1))
    delivery.advance(HOUR + 1)
    click, *ticks = sink.records
    assert decode(Click | Tick, click.value).ts == HOUR
    assert {(tick.topic, tick.partition) for tick in ticks} == {(t.name, p) for t in INPUTS for p in (0, 1)}
    assert all(decode(Click | Tick, tick.value) == Tick(HOUR + 1) for tick in ticks)
    assert delivery.waiting == 1 and delivery.sent["ticks"] == 6
    delivery.advance(HOUR + 1)  # the clock stands: nothing
    assert len(sink.records) == 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    gaps=st.lists(st.integers(0, 400_000), min_size=1, max_size=60),
    every=st.sampled_from([1_000, 60_000, 3_600_000]),
)
def test_disorder_stays_within_the_allowed_lateness(sink, gaps, every):
    sink.records.clear()
    clock, clicks = HOUR, []
    for n, gap in enumerate(gaps):
        clock += gap
        clicks.append(Click(clock, f"u{n % 3}", "i1", f"r{n}", 1))
    delivery = _delivery(sink, disordered=1.0)
    _deliver(delivery, clicks, every)
    assert sink.late(120_000) == []
    assert len(sink.bodies("click")) == len(clicks) == delivery.sent["disordered"]


def test_disorder_does_reorder(sink):
    _deliver(_delivery(sink, disordered=0.5), _events(300))
    assert len(sink.late(0)) > 100


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(gaps=st.lists(st.integers(0, 400_000), min_size=1, max_size=60), every=st.sampled_from([1_000, 60_000, 3_600_000]))
def test_what_is_counted_as_late_is_late_by_the_rule_and_nothing_else_is(sink, gaps, every):
    sink.records.clear()
    clock, clicks = HOUR, []
    for n, gap in enumerate(gaps):
        clock += gap
        clicks.append(Click(clock, f"u{n % 3}", "i1", f"r{n}", 1))
    delivery = _delivery(sink, late=0.3)
    _deliver(delivery, clicks, every)
    assert len(sink.late(120_000)) == delivery.sent["late"]
    assert len(sink.bodies("click")) == len(clicks)
    assert delivery.waiting == 0


def test_twice_is_the_same_bytes_again(sink):
    delivery = _delivery(sink, twice=1.0)
    _deliver(delivery, _events(20))
    counts = Counter(record.value for record in sink.records if record.key)
    assert len(counts) == 80 and set(counts.values()) == {2}
    assert delivery.sent["twice"] == 80 and delivery.sent["clicks"] == 20


def test_every_kind_of_bad_record_is_sent_as_often_as_counted_and_refused_for_its_reason(sink):
    rates = dict.fromkeys(("broken", "unknown_version", "negative_position", "unknown_request", "future"), 0.2)
    delivery = _delivery(sink, unknown_item=0.5, **rates)
    _deliver(delivery, _events(100))
    found: Counter[str] = Counter()
    for record in sink.records:
        try:
            event = decode(topic(record.topic).kind, record.value)
        except InvalidEvent as error:
            found[error.reason] += 1
            continue
        if event.ts > 100 * HOUR:
            found["future"] += 1
        elif isinstance(event, Click) and event.request_id.startswith("ghost"):
            found["unknown_request"] += 1
        elif isinstance(event, Impression) and event.items[0].item == "i-ghost":
            found["unknown_item"] += 1
    sent = delivery.sent
    assert found["unreadable"] == sent["broken"] > 0
    assert found["unknown_version"] == sent["unknown_version"] > 0
    assert found["invalid"] == sent["negative_position"] > 0
    assert all(found[kind] == sent[kind] > 0 for kind in ("unknown_request", "unknown_item", "future"))
    assert sent["impressions"] == sent["clicks"] == sent["orders"] == sent["returns"] == 100


def test_the_records_kept_are_the_records_counted(sink):
    """All kinds that are records of their own add up to what each topic acknowledged."""
    delivery = Delivery(sink, DeliverySettings(), seed=2)
    _deliver(delivery, _events(500))
    own = ("impressions", "clicks", "orders", "returns", "ticks", "twice", "broken", "unknown_version", "negative_position",
           "unknown_request", "unknown_item", "future")  # fmt: skip
    assert sum(delivery.sent[kind] for kind in own) == sum(sink.acked.values()) == len(sink.records)
    assert set(sink.acked) == {IMPRESSIONS.name, CLICKS.name, ORDERS.name}


def test_a_share_of_clicks_comes_without_its_request(sink):
    delivery = _delivery(sink, no_request_id=0.3)
    _deliver(delivery, _events(400))
    bare = [body for body in sink.bodies("click") if body["request_id"] == ""]
    assert len(bare) == delivery.sent["no_request_id"] == pytest.approx(120, abs=40)


def test_draining_stops_at_the_present_and_what_lies_after_it_stays(sink):
    delivery = _delivery(sink)
    delivery.offer(Click(HOUR, "u1", "i1", "r1", 1))
    delivery.offer(Click(9 * HOUR, "u1", "i1", "r2", 1))
    delivery.drain(5 * HOUR)
    assert delivery.clock_ms == max(body["ts"] for body in sink.bodies("tick")) == 5 * HOUR
    assert len(sink.bodies("click")) == 1 and delivery.waiting == 1
    assert sum(sink.acked.values()) == len(sink.records)


def test_a_new_item_is_announced_in_the_catalogues_topic(sink):
    delivery = _delivery(sink)
    item = ItemAdded(HOUR, "i9", "a lamp", (1, 2, 3, 4, 5), "c1")
    delivery.add_item(item)
    record = sink.records[0]
    assert (record.topic, record.partition, record.key) == (ITEMS.name, 0, b"i9")
    assert decode(ItemAdded, record.value) == item and delivery.sent["items"] == 1


def test_partitions_are_those_of_kafkas_own_hash():
    """Kafka's test values: murmur2("21") = -973932308, of "foobar" -790332482; without their sign bit mod 1000."""
    assert partition_of(b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000 == 340
    assert partition_of(b"foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000 == 166
