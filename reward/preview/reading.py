"""The newest examples and the pools of their pages, from Kafka, kept up to date a read at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import msgspec
import structlog
from confluent_kafka import Message

from schemas import tails
from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import InvalidEvent, InvalidRequest
from schemas.examples import TrainingExample
from schemas.pools import Pool
from schemas.topics import EXAMPLES, POOLS
from schemas.views import ViewStatus

log = structlog.get_logger()

#: Pages looked for at most, for each example asked for: pools are written for pages that are no examples yet, too.
REACH: Final = 4
#: A pool is written this long before its page at most, and pools out of order by time are no further apart (ms).
SLACK_MS: Final = 120_000
LIMITS: Final = (1, 200_000)


@dataclass(frozen=True)
class Stored:
    """What is there: the newest revision of each page, and pools by request id."""

    examples: tuple[TrainingExample, ...]
    pools: dict[str, Pool]
    unreadable: int  #: records that were passed over


class _Head(msgspec.Struct):
    """The part of a pool that says whether it is wanted."""

    ts: int
    request_id: str


@dataclass
class _Held:
    """An example and when its record was written (broker's time, ms)."""

    example: TrainingExample
    partition: int
    written_ms: int


@dataclass
class RecentPages:
    """The last ``count`` examples; a read takes only what is new. For one thread at a time: it locks."""

    connections: Connections
    count: int
    _held: list[_Held] = field(default_factory=list, repr=False)
    _next: dict[int, int] = field(default_factory=dict, repr=False)
    _pools: dict[str, Pool] = field(default_factory=dict, repr=False)
    _looked: set[str] = field(default_factory=set, repr=False)
    _unreadable: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """Raises InvalidRequest: the number of examples is outside its bounds."""
        low, high = LIMITS
        if not low <= self.count <= high:
            raise InvalidRequest("examples", self.count, f"{low} to {high:,}", "choose a number in between")

    def read(self) -> Stored:
        """What is there now.

        Raises:
            Unavailable: Kafka does not answer, or lacks a topic.
        """
        with self._lock:
            self._read_examples()
            newest: dict[str, _Held] = {}
            for held in self._held:
                known = newest.get(held.example.request_id)
                if known is None or held.example.revision > known.example.revision:
                    newest[held.example.request_id] = held
            self._read_pools([held for request, held in newest.items() if request not in self._looked])
            self._looked = set(newest)
            self._pools = {request: pool for request, pool in self._pools.items() if request in newest}
            return Stored(tuple(held.example for held in newest.values()), dict(self._pools), self._unreadable)

    def _read_examples(self) -> None:
        """From each partition's end as much as it takes for ``count`` together, then the newest of them all."""
        bounds = tails.ends(self.connections, EXAMPLES)
        reach = _shares({p: high - low for p, (low, high) in bounds.items()}, self.count)
        starts = {p: max(self._next.get(p, 0), high - reach[p]) for p, (_, high) in bounds.items()}
        for message in tails.read(self.connections, EXAMPLES, starts):
            if (example := self._decoded(message)) is not None:
                self._held.append(_Held(example, message.partition(), message.timestamp()[1]))
        self._next = {p: high for p, (_, high) in bounds.items()}
        self._held = sorted(self._held, key=attrgetter("written_ms"))[-self.count :]

    def _read_pools(self, wanted: list[_Held]) -> None:
        """Pools lie in the partition of their page's example, written about when people saw the page.

        An example is written when its page's windows have closed, in event time; where that runs faster than the clock, as in a
        replay, the page was written later than this says, and the reading goes on from there.
        """
        if not wanted:
            return
        fresh = [held for held in wanted if held.example.status is ViewStatus.PROVISIONAL] or wanted
        begin: dict[int, int] = {}
        last: dict[int, int] = {}
        for held in fresh:
            seen_ms = held.written_ms - (held.example.emitted_at - held.example.ts) - SLACK_MS
            begin[held.partition] = min(begin.get(held.partition, seen_ms), seen_ms)
            last[held.partition] = max(last.get(held.partition, 0), held.example.ts)
        starts = tails.since(self.connections, POOLS, {p: max(ms, 0) for p, ms in begin.items()})
        names, left = {held.example.request_id for held in wanted}, REACH * self.count
        head: _Head | None = None

        def enough(message: Message) -> bool:
            nonlocal left, head
            left, head = left - 1, _head(message)
            return left < 0 or not names or (head is not None and head.ts > last[message.partition()] + SLACK_MS)

        for message in tails.read(self.connections, POOLS, starts, enough):
            if head is None:  # of this message: `enough` has looked at it
                self._refuse(message, "no pool")
            elif head.request_id in names:
                try:
                    self._pools[head.request_id] = decode(Pool, message.value(), limit=len(message.value()))
                    names.discard(head.request_id)
                except InvalidEvent as error:
                    self._refuse(message, str(error))

    def _decoded(self, message: Message) -> TrainingExample | None:
        try:
            example: TrainingExample = decode(TrainingExample, message.value() or b"", limit=len(message.value() or b""))
        except InvalidEvent as error:
            self._refuse(message, str(error))
            return None
        return example

    def _refuse(self, message: Message, why: str) -> None:
        self._unreadable += 1
        log.warning("passed over", topic=message.topic(), partition=message.partition(), offset=message.offset(), error=why)


_heads = msgspec.json.Decoder(_Head)


def _head(message: Message) -> _Head | None:
    try:
        return _heads.decode(message.value() or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _shares(there: dict[int, int], count: int) -> dict[int, int]:
    """How many of the ``there`` offsets to read of each partition: alike, and where one has less the others more. Somewhat more
    than ``count``: partitions are not written alike, and transactions leave marks among the records."""
    left, shares = count, dict[int, int]()
    for n, p in enumerate(sorted(there, key=there.__getitem__)):
        fair = -(-left // (len(there) - n))
        shares[p] = min(there[p], fair + fair // 8 + 32)
        left -= min(fair, shares[p])
    return shares
