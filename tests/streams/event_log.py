"""A seeded log of shop events with dirty delivery: late, twice, out of order, broken."""

from __future__ import annotations

import random

import msgspec

from schemas.events import Click, Impression, Order, Return, ShownItem, Tick
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ORDERS

START = 1_000_000_000_000


def event_log(seed: int, requests: int, partitions: int = 2) -> list[tuple[str, int, bytes]]:
    """(topic, partition, value) in the order in which they are sent; 20 requests in a second of event time."""
    rng = random.Random(seed)
    told: list[tuple[float, str, int, bytes]] = []

    def tell(topic: str, user: int, event: msgspec.Struct, ts: int) -> None:
        at = ts + rng.choice([0, 0, 0, 300, 3_000]) + (30_000 if rng.random() < 0.01 else 0)
        raw = msgspec.json.encode(event)
        told.append((at, topic, user % partitions, raw))
        if rng.random() < 0.03:
            told.append((at + rng.choice([0, 500]), topic, user % partitions, raw))
        if rng.random() < 0.01:
            told.append((at, topic, user % partitions, raw[: len(raw) // 2]))

    for n in range(requests):
        ts, number = START + n * 50, rng.randrange(200)
        user = f"user-{number}"
        shown = rng.sample(range(50), 6)
        items = tuple(ShownItem(f"item-{i}", p + 1, 0.5) for p, i in enumerate(shown))
        tell(IMPRESSIONS.name, number, Impression(ts, f"r{n}", user, f"query {n % 17}", items), ts)
        for i in shown:
            if rng.random() > 0.15:
                continue
            clicked = ts + rng.randrange(35_000)
            tell(CLICKS.name, number, Click(clicked, user, f"item-{i}", rng.choice(["", f"r{n}"])), clicked)
            if rng.random() < 0.4:
                ordered = clicked + rng.randrange(65_000)
                tell(ORDERS.name, number, Order(ordered, user, f"item-{i}", f"o{n}-{i}", 9.5), ordered)
                if rng.random() < 0.4:
                    back = ordered + rng.randrange(95_000)
                    tell(ORDERS.name, number, Return(back, user, f"o{n}-{i}"), back)
    end = START + requests * 50 + 400_000
    for topic in INPUTS:
        told += [
            (float(t), topic.name, p, msgspec.json.encode(Tick(t)))
            for p in range(partitions)
            for t in range(START, end, 5_000)
        ]
    return [(topic, partition, raw) for _, topic, partition, raw in sorted(told, key=lambda t: t[0])]
