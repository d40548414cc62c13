"""What the join adds to each window of event time, for the log's integrity to be judged by (`streams.integrity`).

A record counts in the window of its own event time, when it is settled; one that is refused at the door has no time to rely
on, and counts in the window that its topic had come to. Both are over for a window once the watermark has passed its end,
so what is told depends neither on interleaving nor on chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.codec import encode
from schemas.integrity import SAMPLES, Facts, Sample
from schemas.topics import CLICKS, FACTS, IMPRESSIONS, ORDERS
from streams.runtime.core import Output

if TYPE_CHECKING:
    from streams.attribution.state import Waiting

#: Places of a histogram of delays: place n holds those of n binary digits, in ms. The longest order window has 32.
OCTAVES: Final = 33
#: By phase of an accepted record (impression, click, order, return): its topic, and the checks that it is a sample for.
TOPIC_OF: Final = (IMPRESSIONS.name, CLICKS.name, ORDERS.name, ORDERS.name)
_ARRIVAL: Final = ("arrival_impressions", "arrival_clicks", "arrival_orders", "arrival_orders")
_DELAY: Final = ("", "click_delay", "order_delay", "")


def _none() -> list[int]:
    return [0] * OCTAVES


class Door(msgspec.Struct, array_like=True):
    """What one topic had refused at the door."""

    refused: int = 0
    samples: list[Sample] = []


class Window(msgspec.Struct, array_like=True):
    """Counts of the window whose seconds are being settled, and of later ones what has been refused at the door."""

    start: int = 0  #: event time (ms)
    records: list[int] = msgspec.field(default_factory=lambda: [0] * 4)  #: settled, by phase
    #: Of the first record of each second: the broker's time for it less its own, summed; and how many those are.
    behind_ms: list[int] = msgspec.field(default_factory=lambda: [0] * 4)
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * 4)
    refused: list[int] = msgspec.field(default_factory=lambda: [0] * 4)
    repeated: int = 0
    click_delays: list[int] = msgspec.field(default_factory=_none)  #: from impression to joined click, by octave
    order_delays: list[int] = msgspec.field(default_factory=_none)  #: from the impression of the click
    samples: dict[str, list[Sample]] = {}  #: check -> events
    door: dict[int, dict[str, Door]] = {}  #: start of a window -> topic -> refused at the door

    def settling(self, phase: int, waiting: Sequence[Waiting], partition: int) -> None:
        """These accepted records of a second are about to be settled."""
        if not self.records[phase]:
            self._sample_arrivals(phase, waiting, partition)
        self.records[phase] += len(waiting)
        self.behind_ms[phase] += waiting[0].timestamp - waiting[0].ts
        self.seconds[phase] += 1

    def refuse(self, phase: int, waiting: Waiting, reason: str, partition: int) -> None:
        """A settled record was refused."""
        self.refused[phase] += 1
        sample = Sample(waiting.id, TOPIC_OF[phase], partition, waiting.offset, reason)
        self._sample("quarantine", sample)
        if TOPIC_OF[phase] == CLICKS.name:
            self._sample("click_join", sample)

    def refuse_at_door(self, start: int, topic: str, sample: Sample) -> None:
        """A record was refused when it came, its topic being in the window that begins at ``start``."""
        door = self.door.setdefault(start, {}).setdefault(topic, Door())
        door.refused += 1
        if len(door.samples) < SAMPLES:
            door.samples.append(sample)

    def repeat(self, phase: int, waiting: Waiting, partition: int) -> None:
        """A settled record was known already."""
        self.repeated += 1
        self._sample("duplicates", Sample(waiting.id, TOPIC_OF[phase], partition, waiting.offset))

    def _sample_arrivals(self, phase: int, waiting: Sequence[Waiting], partition: int) -> None:
        for w in waiting[:SAMPLES]:
            late = f"{w.timestamp - w.ts} ms from event to broker"
            sample = Sample(w.id, TOPIC_OF[phase], partition, w.offset, late)
            self._sample(_ARRIVAL[phase], sample)
            if _DELAY[phase]:
                self._sample(_DELAY[phase], sample)

    def _sample(self, check: str, sample: Sample) -> None:
        kept = self.samples.setdefault(check, [])
        if len(kept) < SAMPLES:
            kept.append(sample)

    def pass_to(self, start: int, width: int, source: int) -> Iterator[Output]:
        """Event time has come to the window that begins at ``start``, a multiple of ``width`` (ms): tell the one that had content,
        and the last one over, even if it is empty."""
        end, told = (self.start // width + 1) * width, any(self.records)
        if told:
            yield self._tell(end, source)
        if not told or end < start:
            yield self._tell(start, source)
        self.start = start

    def _tell(self, end: int, source: int) -> Output:
        """The counts so far as facts of the window that ends there, and start anew."""
        passed = [self.door.pop(start) for start in sorted(start for start in self.door if start < end)]
        doors = [door for by_topic in passed for _, door in sorted(by_topic.items())]
        sums, samples = self._sums(sum([door.refused for door in doors])), self.samples
        for door in doors:
            samples["quarantine"] = [*samples.get("quarantine", ()), *door.samples][:SAMPLES]
        kept = {check: tuple(samples[check]) for check in sorted(samples)}
        self.records, self.behind_ms, self.seconds, self.refused = [0] * 4, [0] * 4, [0] * 4, [0] * 4
        self.repeated = 0
        self.click_delays, self.order_delays, self.samples = _none(), _none(), {}
        return Output(FACTS.name, b"%d" % source, encode(Facts(source, "join", end, sums, kept)), 0)

    def _sums(self, door: int) -> dict[str, tuple[float, ...]]:
        # Places are phases: 0 impressions, 1 clicks, 2 orders, 3 returns.
        records, joined = sum(self.records), sum(self.click_delays)
        if not records + door:
            return {}
        return {
            "click_join": (joined, joined + self.refused[1]),
            "duplicates": (self.repeated, records),
            "quarantine": (sum(self.refused) + door, records + door),
            "click_delay": tuple(self.click_delays),
            "order_delay": tuple(self.order_delays),
            "arrival_impressions": (self.behind_ms[0], self.seconds[0]),
            "arrival_clicks": (self.behind_ms[1], self.seconds[1]),
            "arrival_orders": (sum(self.behind_ms[2:]), sum(self.seconds[2:])),
        }
