"""Feeds events in real time at a steady rate, with a tick of the present every 100 ms: the load of the latency case."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import msgspec
from confluent_kafka import Producer

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.workload import CLICKS, IMPRESSIONS, ORDERS, PAGE, TOPICS
from schemas.events import Click, Impression, Order, ShownItem, Tick

TICK_S, STEP_S = 0.1, 0.002
#: Of each 100 events so many are page views, and so many of the others clicks; the rest are orders.
PAGES, CLICKED, USERS = 65, 32, 50_000
_MARK = 1_234_567_890_123


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: kafka, partitions, rate (events/s), seconds. Tells ``sent``; then only ticks, until SIGTERM."""
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    feeder = _Feeder(job["kafka"], job["partitions"])
    tell("first", clock_s=time.time())
    began, sent, ticked = time.time(), 0, 0.0
    while (now := time.time()) < began + job["seconds"]:
        if now - ticked >= TICK_S:
            feeder.tick(now)
            ticked = now
        due = int((now - began) * job["rate"])
        for number in range(sent, due):
            feeder.send(number)
        sent = due
        feeder.serve(STEP_S)
    tell("end", sent=sent, seconds=time.time() - began)
    while not over:
        feeder.tick(time.time())
        feeder.serve(TICK_S)


class _Feeder:
    """Events are templates with their time and ids put in: encoding them anew would cost more than sending."""

    def __init__(self, kafka: str, partitions: int) -> None:
        self._partitions = partitions
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
        rng = random.Random(1)
        self._pages = [_template(self._page(rng, n)) for n in range(200)]
        self._click = _template(Click(_MARK, "USER", "item-00000", "REQUEST", 1))
        self._order = _template(Order(_MARK, "USER", "item-00000", "REQUEST", 9.5))

    def _page(self, rng: random.Random, number: int) -> Impression:
        # Item 0 is on every page, so that every click finds it.
        items = ["item-00000", *(f"item-{rng.randrange(1, 20_000):05d}" for _ in range(PAGE - 1))]
        shown = tuple(ShownItem(item, n + 1, 0.75) for n, item in enumerate(items))
        return Impression(_MARK, "REQUEST", "USER", f"query {number} for things", shown, session="s-1")

    def send(self, number: int) -> None:
        """The event of that number: a page, a click on an earlier page of the same hundred, or an order after one."""
        hundred, place = divmod(number, 100)
        on_page = (
            place if place < PAGES else 2 * (place - PAGES) if place < PAGES + CLICKED else 2 * (place - PAGES - CLICKED)
        )
        page = hundred * PAGES + on_page
        user = page % USERS
        values = {b"ts": int(time.time() * 1_000), b"user": b"u%d" % user, b"request": b"r%d" % page}
        if place < PAGES:
            topic, raw = IMPRESSIONS, self._pages[page % len(self._pages)]
        elif place < PAGES + CLICKED:
            topic, raw = CLICKS, self._click
            values[b"request"] = values[b"request"] if place % 2 else b""
        else:
            topic, raw = ORDERS, self._order
        self._produce(topic, user % self._partitions, raw % values)

    def tick(self, now: float) -> None:
        """The present, to every partition of every topic."""
        raw = msgspec.json.encode(Tick(int(now * 1_000)))
        for topic in range(len(TOPICS)):
            for partition in range(self._partitions):
                self._produce(topic, partition, raw)

    def serve(self, seconds: float) -> None:
        """Let the client work, and wait."""
        self._producer.poll(0)
        time.sleep(seconds)

    def _produce(self, topic: int, partition: int, raw: bytes) -> None:
        while True:
            try:
                self._producer.produce(TOPICS[topic], raw, partition=partition)
                return
            except BufferError:
                self._producer.poll(0.01)


def _template(event: msgspec.Struct) -> bytes:
    """The event on the wire, with places for its time, user and request (an order's id)."""
    raw = msgspec.json.encode(event)
    for mark, place in ((b"%d" % _MARK, b"%(ts)d"), (b"USER", b"%(user)b"), (b"REQUEST", b"%(request)b")):
        raw = raw.replace(mark, place)
    return raw
