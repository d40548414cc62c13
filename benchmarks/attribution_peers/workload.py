"""The log that every system joins: page views with clicks, orders and returns, in the order in which they are delivered.

Deterministic by seed. Users come in sessions of a few pages; delivery is late (within the lateness) and now and then twice.
Ticks tell each topic's time; the last ones lie past every window, so that all views are emitted. Every time is a
sixtieth of a shop's: a full log is then that of a shop with some 400 events a second, and its windows still close.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.events import Click, Impression, Order, Return, ShownItem, Tick

TOPICS = ("search.impressions", "search.clicks", "search.orders")
#: The same for a log of few users, which a slow system reads instead.
FEW_TOPICS = ("bench.impressions", "bench.clicks", "bench.orders")
IMPRESSIONS, CLICKS, ORDERS = range(3)
#: Plain Faust's tables. Their changelogs are made before it starts: it makes them too, but an event that comes before its
#: client has heard of them raises PartitionsMismatch, and that agent is gone.
TABLES = ("open_views", "clicked", "ordered")

#: Windows of the join (s): half an hour, three and six hours, two minutes, in sixtieths. Orders' and returns' are shorter
#: than the defaults, so that they end within the log.
CLICK_WINDOW_S, ORDER_WINDOW_S, RETURN_WINDOW_S, LATENESS_S = 30, 180, 360, 2
#: Event time that the log covers, and between two ticks (ms): twelve hours and ten minutes, in sixtieths.
SPAN_MS, TICK_MS = 720_000, 10_000
RULES = {
    "click_window_s": CLICK_WINDOW_S,
    "order_window_s": ORDER_WINDOW_S,
    "return_window_s": RETURN_WINDOW_S,
    "lateness_s": LATENESS_S,
}
PAGE, ITEMS, QUERIES, VIEWS_A_USER = 10, 20_000, 2_000, 40

_CLICK_RATE, _ORDER_RATE, _RETURN_RATE, _TWICE = 0.05, 0.1, 0.15, 0.005
#: Events that a view brings with it, itself included: so many views are drawn for a wanted number of events.
EVENTS_A_VIEW = 1 + PAGE * _CLICK_RATE * (1 + _ORDER_RATE * (1 + _RETURN_RATE))


class Delivered(NamedTuple):
    """A record as it is produced; ``topic`` indexes `TOPICS`, ``timestamp`` (ms) is when it is delivered."""

    timestamp: int
    topic: int
    partition: int
    key: bytes
    value: bytes


def make_log(events: int, seed: int, start_ms: int, partitions: int) -> list[Delivered]:
    """About ``events`` events and the ticks between them, in order of delivery; a user's are in one partition."""
    rng = random.Random(seed)
    log: list[Delivered] = []

    def deliver(topic: int, user: int, event: msgspec.Struct, ts: int) -> None:
        at = ts + min(int(rng.expovariate(1 / 33)), 1_000)
        raw = msgspec.json.encode(event)
        key = b"user-%d" % user
        log.append(Delivered(at, topic, user % partitions, key, raw))
        if rng.random() < _TWICE:
            log.append(Delivered(at + 8, topic, user % partitions, key, raw))

    for number, (user, ts, query) in enumerate(_pages(rng, max(1, round(events / EVENTS_A_VIEW)), start_ms)):
        request, name = f"{user:06x}-{number:08x}", f"user-{user}"
        shown = [f"item-{int(ITEMS * rng.random() ** 2):05d}" for _ in range(PAGE)]
        items = tuple(ShownItem(item, n + 1, round(0.5 + rng.random() / 2, 4)) for n, item in enumerate(shown))
        view = Impression(ts, request, name, query, items, session=f"s-{user}-{ts // 60_000}", checkpoint="step-1200")
        deliver(IMPRESSIONS, user, view, ts)
        for position, item in enumerate(shown):
            if rng.random() < _CLICK_RATE:
                clicked = ts + 17 + min(int(rng.expovariate(1 / 1_000)), CLICK_WINDOW_S * 1_000 - 33)
                named = request if rng.random() < 0.5 else ""
                deliver(CLICKS, user, Click(clicked, name, item, named, position + 1), clicked)
                if rng.random() < _ORDER_RATE:
                    _order(rng, deliver, user, item, f"o-{number}-{position}", clicked)
    log += _ticks(start_ms, partitions)
    log.sort(key=lambda record: record.timestamp)
    return log


def _order(rng: random.Random, deliver, user: int, item: str, order_id: str, clicked: int) -> None:  # type: ignore[no-untyped-def]
    ordered = clicked + 17 + min(int(rng.expovariate(1 / 30_000)), ORDER_WINDOW_S * 1_000 - 33)
    deliver(ORDERS, user, Order(ordered, f"user-{user}", item, order_id, round(5 + 95 * rng.random(), 2)), ordered)
    if rng.random() < _RETURN_RATE:
        back = ordered + 17 + min(int(rng.expovariate(1 / 120_000)), RETURN_WINDOW_S * 1_000 - 33)
        deliver(ORDERS, user, Return(back, f"user-{user}", order_id), back)


def _pages(rng: random.Random, views: int, start_ms: int) -> Iterator[tuple[int, int, str]]:
    """(user, time, query) of page views, session by session: on average five pages, a second apart."""
    users = max(1, views // VIEWS_A_USER)

    def sessions() -> Iterator[tuple[int, int, str]]:
        while True:
            user, ts = rng.randrange(users), start_ms + rng.randrange(SPAN_MS)
            query = f"query {rng.randrange(QUERIES)} for things"
            yield user, ts, query
            while rng.random() < 0.8:
                ts += 83 + int(rng.expovariate(1 / 1_000))
                yield user, ts, query

    return islice(sessions(), views)


def _ticks(start_ms: int, partitions: int) -> Iterator[Delivered]:
    past = start_ms + SPAN_MS + 120_000
    all_over = past + (CLICK_WINDOW_S + ORDER_WINDOW_S + RETURN_WINDOW_S + LATENESS_S) * 1_000
    for ts in (*range(start_ms, past, TICK_MS), all_over):
        raw = msgspec.json.encode(Tick(ts))
        for topic in range(len(TOPICS)):
            for partition in range(partitions):
                yield Delivered(ts, topic, partition, b"", raw)


def events_of(log: Iterable[Delivered]) -> int:
    """How many of the records are events, not ticks."""
    return sum(1 for record in log if record.key)


def of_few_users(log: Iterable[Delivered], events: int) -> list[Delivered]:
    """All events of so many users that they are about ``events``: a small log whose windows close as in the whole one."""
    by_user: dict[bytes, list[Delivered]] = {}
    for record in log:
        if record.key:
            by_user.setdefault(record.key, []).append(record)
    taken: list[Delivered] = []
    for key in sorted(by_user):
        if len(taken) >= events:
            break
        taken += by_user[key]
    return sorted(taken, key=lambda record: record.timestamp)


def save(log: Sequence[Delivered], file: Path) -> None:
    """Keep the log for a process that reads it without Kafka."""
    file.write_bytes(msgspec.msgpack.encode(log))


def load(file: Path) -> list[Delivered]:
    """What `save` kept."""
    return [
        Delivered(*record)
        for record in msgspec.msgpack.decode(file.read_bytes(), type=list[tuple[int, int, int, bytes, bytes]])
    ]
