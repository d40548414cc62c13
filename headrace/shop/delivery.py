"""Delivery of a shop's events as shops deliver: mostly well, sometimes late, twice, out of order or broken.

The delivery owns the clock of the inputs. `offer` takes true events, `advance` sends what is due up to a time, in order
of release, and then a tick to every partition of every input. An event is held back until it is late by the rule
of the attribution: a tick more than the allowed lateness after it has gone out before it.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from typing import NamedTuple

import msgspec

from headrace.shop.draws import stream
from headrace.shop.settings import DeliverySettings
from headrace.shop.sink import Sink, partition_of
from headrace.world import Event
from schemas.codec import encode
from schemas.events import Click, Impression, ItemAdded, Order, Return, ShownItem, Tick
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ITEMS, ORDERS

TOPIC: dict[type, str] = {Impression: IMPRESSIONS.name, Click: CLICKS.name, Order: ORDERS.name, Return: ORDERS.name}
KIND: dict[type, str] = {Impression: "impressions", Click: "clicks", Order: "orders", Return: "returns"}
TEN_YEARS_MS = 10 * 365 * 86_400_000
UNKNOWN_VERSION = 99


class _Waiting(NamedTuple):
    release: int
    number: int  #: keeps equal times in their order and stops the comparison here
    topic: str
    key: bytes
    value: bytes
    kinds: tuple[str, ...]


class Delivery:
    """Sends to a `Sink`. ``sent`` counts records by kind; a true event counts once as its kind and once per mishap."""

    def __init__(self, sink: Sink, settings: DeliverySettings, seed: int) -> None:
        self.sink, self.settings = sink, settings
        self.sent: Counter[str] = Counter()
        self.clock_ms = 0  #: the last tick
        self._rng = stream(seed, "delivery")
        self._due: list[_Waiting] = []
        self._late: list[_Waiting] = []
        self._number = 0

    @property
    def waiting(self) -> int:
        """Records offered and not sent yet."""
        return len(self._due) + len(self._late)

    def offer(self, event: Event) -> None:
        """Take a true event; it goes out when the clock has passed it, with whatever happens to it on the way."""
        dirt, draw = self.settings.dirt, self._rng.random(4)
        topic, key = TOPIC[type(event)], event.user.encode()
        kinds: tuple[str, ...] = (KIND[type(event)],)
        self._add_bad_records(event, topic, key)
        value = encode(event)
        if isinstance(event, Click) and draw[0] < dirt.no_request_id:
            value = encode(msgspec.structs.replace(event, request_id=""))
            kinds = (*kinds, "no_request_id")
        if draw[1] < dirt.late:
            heapq.heappush(self._late, self._entry(event.ts, topic, key, value, (*kinds, "late")))
            return
        release = event.ts
        if draw[2] < dirt.disordered:
            release += int(self._rng.integers(1, self.settings.lateness_s * 1000))
            kinds = (*kinds, "disordered")
        heapq.heappush(self._due, self._entry(release, topic, key, value, kinds))
        if draw[3] < dirt.twice:
            heapq.heappush(self._due, self._entry(release, topic, key, value, ("twice",)))

    def advance(self, clock_ms: int, wait: bool = True) -> None:
        """Send everything due up to ``clock_ms``, then ticks. Going back is no move.

        Args:
            wait: return only when Kafka has kept everything; without it, what has failed is reported by a later wait.
        """
        if clock_ms <= self.clock_ms:
            return
        lateness_ms = self.settings.lateness_s * 1000
        while self._late and self._late[0].release + lateness_ms < self.clock_ms:
            self._send(heapq.heappop(self._late))
        while self._due and self._due[0].release <= clock_ms:
            self._send(heapq.heappop(self._due))
        value = encode(Tick(clock_ms))
        for topic in INPUTS:
            for partition in range(self.sink.partitions(topic.name)):
                self.sink.send(topic.name, partition, b"", value)
                self.sent["ticks"] += 1
        if wait:
            self.sink.flush()
        self.clock_ms = clock_ms

    def add_item(self, item: ItemAdded) -> None:
        """Announce a new item at once."""
        self.sink.send(ITEMS.name, 0, item.item.encode(), encode(item))
        self.sent["items"] += 1

    def drain(self, now_ms: int) -> None:
        """Let the time run up to ``now_ms`` and not beyond: what is due by then goes out, windows close behind it."""
        while self.waiting and (stop := self._next_stop()) < now_ms:
            self.advance(stop, wait=False)
        self.advance(now_ms)

    def _next_stop(self) -> int:
        """A step on, or straight to the next thing that waits when nothing is due for long."""
        step_ms = self.settings.tick_s * 1000
        lateness_ms = self.settings.lateness_s * 1000
        nearest = [entry.release for entry in self._due[:1]] + [entry.release + lateness_ms for entry in self._late[:1]]
        return max(self.clock_ms + step_ms, min(nearest) + 1)

    def _entry(self, release: int, topic: str, key: bytes, value: bytes, kinds: tuple[str, ...]) -> _Waiting:
        self._number += 1
        return _Waiting(release, self._number, topic, key, value, kinds)

    def _send(self, entry: _Waiting) -> None:
        self.sink.send(entry.topic, partition_of(entry.key, self.sink.partitions(entry.topic)), entry.key, entry.value)
        self.sent.update(entry.kinds)

    def _add_bad_records(self, event: Event, topic: str, key: bytes) -> None:
        dirt, draw = self.settings.dirt, self._rng.random(6)
        ghost = Click(event.ts, event.user, "i-ghost", f"ghost-{self._number}", 1)
        bad: list[tuple[str, str, bytes]] = []
        if draw[0] < dirt.broken:
            bad.append(("broken", topic, encode(event)[:-7]))
        if draw[1] < dirt.unknown_version:
            bad.append(("unknown_version", topic, encode(msgspec.structs.replace(event, v=UNKNOWN_VERSION))))
        if draw[2] < dirt.negative_position:
            bad.append(("negative_position", CLICKS.name, encode(msgspec.structs.replace(ghost, position=-1))))
        if draw[3] < dirt.unknown_request:
            bad.append(("unknown_request", CLICKS.name, encode(ghost)))
        if draw[4] < dirt.future:
            ahead = int(time.time() * 1000) + TEN_YEARS_MS
            bad.append(("future", topic, encode(msgspec.structs.replace(event, ts=ahead))))
        if draw[5] < dirt.unknown_item and isinstance(event, Impression):
            shown = (ShownItem("i-ghost", 1),)
            ghost_view = Impression(event.ts, f"ghost-{self._number}", event.user, event.query, shown)
            bad.append(("unknown_item", IMPRESSIONS.name, encode(ghost_view)))
        for kind, where, value in bad:
            heapq.heappush(self._due, self._entry(event.ts, where, key, value, (kind,)))
