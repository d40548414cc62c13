"""The whole shop through the join: what people do fits the windows, dirt is refused for its reason, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from headrace.shop.delivery import Delivery
from headrace.shop.driver import Driver
from headrace.shop.rounds import rounds
from headrace.shop.settings import DeliverySettings, DirtSettings, ShopSettings
from headrace.shop.world import ShopWorld
from schemas.codec import encode
from schemas.events import Impression, ShownItem
from schemas.topics import IMPRESSIONS
from streams.accounting import accounted
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record

NOW = 1_790_000_000_000
SHOP = ShopSettings(seed=9, items=400, users=80, queries=60, history_impressions=600, live_requests=500)


def _delivered(sink, settings: DeliverySettings) -> tuple[ShopWorld, Delivery]:
    """History and live part, with pages of the ten most relevant items in place of a search server's."""
    world = ShopWorld(SHOP, NOW)
    delivery = Delivery(sink, settings, seed=1)
    driver = Driver(world, delivery, settings, dict.fromkeys(world.catalogue.items, (0, 0, 0, 0, 0)), "code1")
    driver.replay_history()
    items = world.catalogue.items
    for group in rounds(world.requests(), settings.concurrency, settings.round_span_s * 1000):
        delivery.advance(group[0].ts)
        for request in group:
            order = sorted(range(len(items)), key=world.tiers(request.query, items).__getitem__, reverse=True)[:10]
            shown = [items[row] for row in order]
            page = tuple(ShownItem(item, n) for n, item in enumerate(shown, start=1))
            view = Impression(request.ts, request.request_id, request.user, request.query, page, request.session)
            key = request.user.encode()
            sink.send(IMPRESSIONS.name, 0, key, encode(view))
            outcome = world.feedback(request, shown)
            for event in (*outcome.clicks, *outcome.orders, *outcome.returns):
                delivery.offer(event)
    driver.drain(NOW)
    return world, delivery


def _counted(sink, world: ShopWorld) -> Counter[str]:
    core = AttributionCore(0, known_items=world.catalogue.row.__contains__)
    for offset, record in enumerate(sink.records):
        if record.topic.startswith("search."):
            core.apply(record.topic, [Record(offset, NOW, record.key, record.value)])
            core.advance()
    return Counter(core.counters)


@pytest.fixture
def one_partition(sink):
    """All users in one partition, so that one core sees everything."""
    return type(sink)(partitions=1)


def test_without_late_events_everything_joins_and_only_dirt_is_refused(one_partition):
    """No click, order or return of the shop falls out of its window, even disordered, doubled and without request ids."""
    settings = DeliverySettings(dirt=DirtSettings(late=0, unknown_item=0.01))
    world, delivery = _delivered(one_partition, settings)
    counted, sent = _counted(one_partition, world), delivery.sent
    assert counted["pending"] == 0
    assert counted["impressions"] == SHOP.history_impressions + SHOP.live_requests
    assert all(counted[kind] == sent[kind] > 0 for kind in ("clicks", "orders", "returns", "ticks"))
    assert counted["duplicates"] == sent["twice"] > 0
    refused = {name.removeprefix("quarantined."): n for name, n in counted.items() if name.startswith("quarantined.")}
    expected = {
        "unreadable": sent["broken"],
        "unknown_version": sent["unknown_version"],
        "invalid": sent["negative_position"],
        "unknown_request": sent["unknown_request"],
        "unknown_item": sent["unknown_item"],
        "future": sent["future"],
    }
    assert {reason: n for reason, n in refused.items() if n} == {reason: n for reason, n in expected.items() if n}


def test_with_all_the_dirt_late_is_late_and_every_record_is_accounted_for(one_partition):
    world, delivery = _delivered(one_partition, DeliverySettings(dirt=DirtSettings(late=0.05)))
    counted = _counted(one_partition, world)
    assert counted["quarantined.late"] == delivery.sent["late"] > 50
    assert counted["quarantined.no_click"] > 0  # orders whose click came too late
    assert accounted(dict(counted)) == sum(record.topic.startswith("search.") for record in one_partition.records)
