"""The undisturbed run: attribution's pure core reads the inputs straight through, and its output is compared with what
the workers have committed. Goes on from check to check, so that each kind of fault is judged by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from schemas.connections import Connections
from schemas.topics import FACTS, INPUTS, QUARANTINE, VIEWS
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.runtime.log import LogReader
from streams.settings import AttributionSettings

Pair = tuple[bytes | None, bytes]


@dataclass(frozen=True)
class Verdict:
    """Whether the outputs were identical; ``difference`` is the first one, empty when they are."""

    views: int
    quarantined: int
    difference: str = ""


class Undisturbed:
    """One core a partition. Check only when the workers have committed the ends of all inputs."""

    def __init__(self, connections: Connections, rules: AttributionSettings) -> None:
        self._reader = LogReader(connections, 60)
        self._cores = [AttributionCore(p, rules) for p in range(connections.partitions)]
        self._next: dict[tuple[str, int], int] = {}

    @property
    def counters(self) -> Counter[str]:
        """Of all partitions."""
        total: Counter[str] = Counter()
        for core in self._cores:
            total.update(core.counters)
        return total

    def check(self) -> Verdict:
        """Compare everything since the last check: views and facts in their order, quarantine as a multiset.

        Raises:
            Unavailable: the broker does not answer.
        """
        views = quarantined = 0
        facts = _pairs(self._fresh(FACTS.name, 0))  # all partitions' are there, under the number of each
        for partition in range(len(self._cores)):
            want = self._said(partition)
            views += len(want[VIEWS.name])
            quarantined += len(want[QUARANTINE.name])
            difference = (
                _in_order("views", _pairs(self._fresh(VIEWS.name, partition)), want[VIEWS.name])
                or _in_order("facts", [one for one in facts if one[0] == b"%d" % partition], want[FACTS.name])
                or _as_multiset(_pairs(self._fresh(QUARANTINE.name, partition)), want[QUARANTINE.name])
            )
            if difference:
                return Verdict(views, quarantined, f"partition {partition}: {difference}")
        return Verdict(views, quarantined)

    def _said(self, partition: int) -> dict[str, list[Pair]]:
        core = self._cores[partition]
        for topic in INPUTS:
            core.apply(topic.name, self._fresh(topic.name, partition))
        core.advance()
        said: dict[str, list[Pair]] = {VIEWS.name: [], FACTS.name: [], QUARANTINE.name: []}
        for output in core.drain()[0]:
            said[output.topic].append((output.key, output.value))
        return said

    def _fresh(self, topic: str, partition: int) -> list[Record]:
        low, end = self._reader.bounds(topic, partition)
        start = self._next.get((topic, partition), low)
        self._next[topic, partition] = end
        return [record for batch in self._reader.read(topic, partition, start, end) for record in batch]


def _pairs(records: list[Record]) -> list[Pair]:
    return [(record.key, record.value) for record in records]


def _in_order(what: str, got: list[Pair], want: list[Pair]) -> str:
    for n, (one, other) in enumerate(zip(got, want, strict=False)):
        if one != other:
            return f"number {n} of the {what} is {_short(one)}, undisturbed {_short(other)}"
    if len(got) != len(want):
        return f"{len(got)} {what}, undisturbed {len(want)}; the first one over is {_short(max(got, want, key=len)[min(len(got), len(want))])}"
    return ""


def _as_multiset(got: list[Pair], want: list[Pair]) -> str:
    if more := Counter(got) - Counter(want):
        return f"{more.total()} records too many in quarantine, first {_short(next(iter(more)))}"
    if less := Counter(want) - Counter(got):
        return f"{less.total()} records missing in quarantine, first {_short(next(iter(less)))}"
    return ""


def _short(pair: Pair) -> str:
    return repr(pair)[:400]
