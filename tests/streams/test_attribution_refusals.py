"""What the join refuses, and with which reason. Times are seconds after `T`."""

from __future__ import annotations

import msgspec

from schemas.events import Tick
from schemas.quarantine import Quarantined
from schemas.topics import CLICKS, IMPRESSIONS, QUARANTINE
from streams.attribution.core import MAX_EVENT_BYTES, AttributionCore
from tests.streams.join_log import RULES, Log, T, back, click, order, view


def test_a_key_that_stands_twice_is_refused_wherever_it_stands() -> None:
    """At the top, in an item, and written with an escape; unusual spacing alone is fine."""
    log = Log()
    log.raw(CLICKS.name, b'{"type":"click","ts":%d,"user":"u","item":"a","item":"b"}' % T)
    log.raw(CLICKS.name, b'{"type":"click","ts":%d,"user":"u","item":"a","\\u0069tem":"b"}' % T)
    log.raw(
        IMPRESSIONS.name,
        b'{"type":"impression","ts":%d,"request_id":"r","user":"u","query":"q","items":[{"item":"a","position":1,"position":2}]}'
        % T,
    )
    log.raw(CLICKS.name, b'{ "type" : "click", "ts": %d, "user": "u", "item": "a" }' % T)
    assert log.reasons == ["unreadable"] * 3
    assert log.core.counters["pending"] == 1


def test_reasons_of_what_cannot_be_joined() -> None:
    """One record for each, in the order in which its second is settled."""
    log = Log()(
        view(),
        view(at=0, items="ac"),  # same request, another page
        click("b", 1, "nobody"),
        click("z", 2, "r"),
        click("b", 3, "r", user="other"),
        order("b", 4, "o1"),
        back("o1", 5),
        click("b", 6, "r"),
        order("b", 7, "o2"),
        order("b", 8, "o2", 9.0),
        click("b", 1_801, "r"),
        click("b", 1_802),
        order("b", 90_000, "o3"),
        back("o2", 259_208),
    ).until(600_000)
    assert log.reasons == [
        "contradiction", "unknown_request", "not_shown", "contradiction", "no_click", "unknown_order", "contradiction",
        "outside_window", "not_shown", "no_click", "unknown_order",
    ]  # fmt: skip


def test_late_is_measured_against_the_own_topics_newest_only() -> None:
    """A click 121 s behind the newest click is late, one 120 s behind is not, however far impressions have come."""
    log = Log()(view(at=0), view("r2", at=5_000), click("a", 200), click("a", 79), click("a", 80))
    assert log.reasons == ["late"]


def test_an_event_ahead_of_the_brokers_time_is_refused_and_moves_nothing() -> None:
    """More than 60 s ahead; ticks too."""
    log = Log()(view(at=61), broker=T)(Tick(T + 61_000), broker=T)
    assert log.reasons == ["future", "future"]
    assert log.core.watermark == 0
    (said, _) = (msgspec.json.decode(o.value, type=Quarantined).detail for o in log.out if o.topic == QUARANTINE.name)
    for part in (str(T + 61_000), "at most 60 s ahead of now", "is 61 s ahead", "future_tolerance_s", "replay"):
        assert part in said
    assert Log()(view(at=60), broker=T).reasons == []


def test_an_item_outside_the_catalogue_is_refused_when_the_catalogue_is_given() -> None:
    """``known_items`` knows a and b."""
    log = Log(AttributionCore(0, RULES, {"a", "b"}.__contains__))(view(items="ab"), view("r2", items="abz"))
    assert log.reasons == ["unknown_item"]


def test_a_record_over_the_bound_is_refused_before_it_is_parsed() -> None:
    """One byte over."""
    log = Log()
    log.raw(IMPRESSIONS.name, b"x" * (MAX_EVENT_BYTES + 1))
    log.raw(IMPRESSIONS.name, b"x" * MAX_EVENT_BYTES)
    assert log.reasons == ["too_large", "unreadable"]
