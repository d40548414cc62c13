"""A seeded log of dirty events without end, and its sending, evenly over a time."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import NamedTuple

from benchmarks.plane.traffic import Traffic
from headrace.shop.delivery import Delivery
from headrace.shop.settings import DeliverySettings
from headrace.shop.sink import KafkaSink
from schemas.connections import Connections
from streams.settings import AttributionSettings

#: Event time at the start (ms): long ago, so that no event is in the future.
START_MS = 1_000_000_000_000
#: Page views in a second of event time.
VIEWS_A_SECOND = 40
USERS = 5_000


class Entry(NamedTuple):
    """A record to send."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class Log:
    """What a shop sends, in the order in which it does. Implements the delivery's `Sink`: it collects."""

    def __init__(self, seed: int, rules: AttributionSettings, partitions: int) -> None:
        self.acked: Counter[str] = Counter()
        self._partitions, self._rules = partitions, rules
        self._entries: deque[Entry] = deque()
        self._traffic = Traffic(seed, rules, USERS)
        self._delivery = Delivery(self, DeliverySettings(lateness_s=rules.lateness_s), seed)
        self._clock_ms = START_MS

    def take(self, events: int) -> list[Entry]:
        """The next so many events, and the ticks between them."""
        taken: list[Entry] = []
        while events:
            while not self._entries:
                self._go_on()
            taken.append(self._entries.popleft())
            events -= bool(taken[-1].key)
        return taken

    def rest(self) -> list[Entry]:
        """All that is still to come of what has begun, and ticks that let every window close."""
        rules = self._rules
        whole_ms = 1_000 * (rules.click_window_s + rules.order_window_s + rules.return_window_s + 4 * rules.lateness_s)
        self._delivery.drain(self._clock_ms + 3 * whole_ms)
        self._delivery.advance(self._clock_ms + 5 * whole_ms)
        left, self._entries = list(self._entries), deque()
        return left

    def _go_on(self) -> None:
        for n in range(VIEWS_A_SECOND):
            for event in self._traffic.view(self._clock_ms + n * 1_000 // VIEWS_A_SECOND):
                self._delivery.offer(event)
        self._clock_ms += 1_000
        self._delivery.advance(self._clock_ms)

    def partitions(self, topic: str) -> int:
        """See `Sink`."""
        return self._partitions

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """See `Sink`."""
        self._entries.append(Entry(topic, partition, key, value))

    def flush(self) -> None:
        """See `Sink`; everything is kept at once."""


class Flow:
    """Sends entries to a broker, in a thread while something else happens."""

    def __init__(self, connections: Connections) -> None:
        self._sink = KafkaSink(connections)
        self._failure: Exception | None = None

    @contextmanager
    def during(self, entries: list[Entry], seconds: float) -> Iterator[None]:
        """Entries go out evenly over ``seconds``; the context ends when all are kept.

        Raises:
            Unavailable: the broker did not keep one for minutes.
        """
        thread = Thread(target=self._send, args=(entries, seconds), name="flow")
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _send(self, entries: list[Entry], seconds: float) -> None:
        began = time.monotonic()
        try:
            for n, entry in enumerate(entries):
                if n % 20 == 0:
                    time.sleep(max(0.0, began + seconds * n / len(entries) - time.monotonic()))
                self._sink.send(entry.topic, entry.partition, entry.key, entry.value)
            self._sink.flush()
        except Exception as error:  # noqa: BLE001 - raised where the thread is joined
            self._failure = error
