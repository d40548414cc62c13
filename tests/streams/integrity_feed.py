"""Events through the join, the facts and the judge, in one process; and a dense little shop that is honest to the last draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from headrace.shop.sink import partition_of
from schemas.codec import decode, encode
from schemas.events import Click, Impression, Order, Return, ShownItem, Tick
from schemas.integrity import Verdict
from schemas.topics import CLICKS, FACTS, IMPRESSIONS, INPUTS, ORDERS, VERDICTS, VIEWS
from serving.exploration import draw
from streams.attribution.core import AttributionCore
from streams.integrity.judge_core import JudgeCore
from streams.integrity.settings import IntegritySettings
from streams.integrity.views_core import ViewFactsCore
from streams.runtime.core import Output, Record
from streams.settings import AttributionSettings

PARTITIONS = 2
HOUR = 3_600_000
TOPIC = {Impression: IMPRESSIONS.name, Click: CLICKS.name, Order: ORDERS.name, Return: ORDERS.name}


class Sent(NamedTuple):
    """A record on its way: event time, topic, key, bytes, and how much later the broker has it (ms)."""

    ts: int
    topic: str
    key: bytes
    raw: bytes
    way_ms: int = 500


def sent(event: Impression | Click | Order | Return) -> Sent:
    return Sent(event.ts, TOPIC[type(event)], event.user.encode(), encode(event))


class Plane:
    """All partitions of the join and of the facts, and the judge; ``verdicts`` in their order."""

    def __init__(self, settings: IntegritySettings, join: AttributionSettings) -> None:
        self._joins = [AttributionCore(p, join) for p in range(PARTITIONS)]
        self._facts = [ViewFactsCore(p, join.integrity_window_s) for p in range(PARTITIONS)]
        self.judge = JudgeCore(PARTITIONS, settings, join.integrity_window_s, join.click_window_s)
        self._next = dict.fromkeys([(t.name, p) for t in (*INPUTS, VIEWS) for p in range(PARTITIONS)], 0)
        self._waiting: dict[tuple[str, int], list[Record]] = {}
        self.facts: list[bytes] = []
        self.verdicts: list[Verdict] = []

    def send(self, topic: str, partition: int, raw: bytes, timestamp: int) -> None:
        """A record arrives at the broker."""
        place = (topic, partition)
        self._waiting.setdefault(place, []).append(Record(self._next[place], timestamp, b"", raw))
        self._next[place] += 1

    def tick(self, ts: int) -> None:
        """The clock says ``ts`` to every input; then everything runs."""
        for topic in INPUTS:
            for partition in range(PARTITIONS):
                self.send(topic.name, partition, encode(Tick(ts)), ts)
        self.run()

    def run(self) -> None:
        """Let all that has arrived run through."""
        for (topic, partition), records in self._waiting.items():
            self._joins[partition].apply(topic, records)
        self._waiting = {}
        for partition, (join, facts) in enumerate(zip(self._joins, self._facts, strict=True)):
            join.advance()
            out = join.drain()[0]
            for output in out:
                if output.topic == VIEWS.name:
                    place = (VIEWS.name, partition)
                    facts.apply(VIEWS.name, [Record(self._next[place], 0, None, output.value)])
                    self._next[place] += 1
            self.take(out + facts.drain()[0])

    def take(self, outputs: Iterable[Output]) -> None:
        """Facts come to the judge."""
        for output in outputs:
            if output.topic == FACTS.name:
                self.judge.apply(FACTS.name, [Record(len(self.facts), 0, None, output.value)])
                self.facts.append(output.value)
        self.verdicts += [decode(Verdict, o.value) for o in self.judge.drain()[0] if o.topic == VERDICTS.name]


def judged(
    log: Sequence[Sent], settings: IntegritySettings | None = None, join: AttributionSettings | None = None,
    tick_ms: int = 600_000, over_ms: int = 5 * 86_400_000,
) -> Plane:  # fmt: skip
    """The log as it is delivered (in the order of event time), a tick every ``tick_ms``, and one after all windows."""
    plane = Plane(settings or IntegritySettings(), join or AttributionSettings())
    due = log[0].ts
    for record in log:
        while record.ts >= due:
            plane.tick(due)
            due += tick_ms
        plane.send(record.topic, partition_of(record.key, PARTITIONS), record.raw, record.ts + record.way_ms)
    plane.tick(due)
    plane.tick(due + over_ms)
    return plane


START = 500_000 * HOUR
ITEMS, PAGE = 12, 4
#: Chances of a click on a position, and of an order after a click.
CLICKED, ORDERED = 0.25, 0.6


def shop(hours: int, pages: int = 400, seed: int = 0) -> Iterator[Impression | Click | Order]:
    """``pages`` page views an hour, each drawn from 12 items with its true propensities, with what becomes of it."""
    rng = np.random.default_rng(seed)
    scores = np.linspace(0.0, 3.0, ITEMS)
    for number in range(hours * pages):
        ts = START + number * HOUR // pages
        user, request = f"u{number % 97}", f"r{number}"
        drawn = draw(scores, PAGE, 1.0, rng.gumbel(size=ITEMS))
        shown = tuple(
            ShownItem(f"i{row}", n, float(np.exp(logp)))
            for n, (row, logp) in enumerate(zip(drawn.order_k.tolist(), drawn.logp_k.tolist(), strict=True), 1)
        )
        yield Impression(ts, request, user, "lamp", shown, support=drawn.support)
        for item in shown:
            if rng.random() < CLICKED:
                clicked = ts + 1_000 + int(rng.exponential(20_000))
                yield Click(clicked, user, item.item, request)
                if rng.random() < ORDERED:
                    yield Order(clicked + 1_000 + int(rng.exponential(300_000)), user, item.item, f"o-{request}-{item.item}")
