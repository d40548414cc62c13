"""Items that came, or were described otherwise, after the run was prepared: as they were when a page was shown.

A view is scored by the catalogue as it was ``settle_ms`` before it was emitted. That is what the log says of the items up to
then, by the event time of their records: the same whenever it is asked, as a record has come by the time that a page after it
is emitted. With the click window as settling time it is the catalogue of the moment at which the page was shown.
Whatever the page shows is in it, be the window ever so short. A removed item keeps its last description: pages have shown it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from reward.relevance import RelevanceScorer
from schemas.catalogue import Catalogue
from schemas.descriptions import Description
from schemas.events import ItemAdded

log = structlog.get_logger()


class Reader(Protocol):
    """What is needed of `streams.item_log.ItemLog`."""

    def __call__(self, at_once: bool = False) -> Sequence[ItemAdded]:
        """Every record so far; ``at_once``: up to the topic's end as it is now."""


class _Version(NamedTuple):
    told: dict[str, Description]  #: of items, where it differs from the run's catalogue
    catalogue: Catalogue
    scorer: RelevanceScorer


class Newcomers:
    """The run's catalogue and scorer, and what the records that ``read`` brings make of them; ``encode`` embeds titles. For several
    threads: the partitions of a worker share one, and recover side by side."""

    def __init__(
        self, catalogue: Catalogue, scorer: RelevanceScorer, encode: Callable[[list[str]], NDArray[np.float32]],
        read: Reader, settle_ms: int,
    ) -> None:  # fmt: skip
        self._first, self._scorer, self._encode, self._read = catalogue, scorer, encode, read
        self._settle_ms, self._asked = settle_ms, 0
        #: Event time, item and description of each record with an identifier.
        self._said: list[tuple[int, tuple[str, Description]]] = []
        self._times: list[int] = []  # theirs, sorted
        self._came: dict[str, int] = {}  # new item -> event time of its first record
        self._seen = 0
        self._which = 0, 0  # records that are known, and those of them that count
        self._now = _Version({}, catalogue, scorer)
        self._other = self._now
        self._lock = Lock()

    def look(self) -> None:
        """Read on to the topic's end.

        Raises:
            Unavailable: the records cannot be read.
        """
        with self._lock:
            self._take(self._read(at_once=True))

    def knows(self, item: str) -> bool:
        """Whether the catalogue or a record read so far has this item."""
        return item in self._first.row or item in self._came

    def at(self, emitted_at: int, items: Sequence[str]) -> tuple[Mapping[str, int], RelevanceScorer]:
        """Rows of items, and the scorer over them, for a view emitted at ``emitted_at`` (ms) that shows these items.

        Raises:
            Unavailable: the records cannot be read.
        """
        with self._lock:
            self._take(self._read())
            until = max([emitted_at - self._settle_ms, *(self._came[item] for item in items if item in self._came)])
            self._asked = max(self._asked, until)
            which = self._seen, bisect_right(self._times, until)
            if which != self._which:
                self._which, told = which, self._first.told(said for ts, said in self._said if ts <= until)
                # Partitions differ in how far they are: the version before may be wanted again.
                if told != self._now.told:
                    self._other, self._now = self._now, self._other if told == self._other.told else self._made(told)
            return self._now.catalogue.row, self._now.scorer

    def _take(self, records: Sequence[ItemAdded]) -> None:
        late = 0
        for record in records[self._seen :]:
            if record.sid:
                if record.item not in self._first.row:
                    self._came.setdefault(record.item, record.ts)
                self._said.append((record.ts, (record.item, Description.of(record))))
                late = max(late, self._asked - record.ts)
        if len(records) > self._seen:
            self._seen, self._times = len(records), sorted(ts for ts, _ in self._said)
        if late > 0:
            log.warning("item records came late: views were scored without them", by_ms=late)

    def _made(self, told: dict[str, Description]) -> _Version:
        catalogue = self._first.described(told, self._came)
        return _Version(told, catalogue, self._scorer.over(catalogue, self._encode))
