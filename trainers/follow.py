"""What the learner reads: examples by its own offsets, and the newest weights, snapshot and catalogue change.

Nothing is committed to the broker: the offsets live in the manifest. Examples wait here, in order of arrival, until a
step takes them; a full queue pauses the reading.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Corrupt, InvalidEvent, Unavailable
from schemas.events import ItemAdded
from schemas.examples import TrainingExample
from schemas.integrity import Verdict
from schemas.items import ItemTaker
from schemas.kafka_clients import open_client
from schemas.posteriors import SnapshotPointer
from schemas.quarantine import RAW_LIMIT, Quarantined
from schemas.topics import EXAMPLES, ITEMS, SNAPSHOTS, VERDICTS, WEIGHTS
from schemas.weights import RewardWeights
from trainers.patience import Patience
from trainers.settings import QUEUE

log = structlog.get_logger()

#: Time between two looks at how far the log goes while none of it is read, and the longest that one, or one at how far it was read,
#: takes (seconds).
ASK_S = 1.0
#: Longest wait for the examples that the journal says exist (seconds).
PATIENCE_S = 120.0


class Arrival(NamedTuple):
    """A record of `training.examples`; ``example`` None: unreadable."""

    partition: int
    offset: int
    example: TrainingExample | None
    timestamp: int = 0  #: the broker's time for it (ms)
    refused: Quarantined | None = None  #: what an unreadable one becomes when a step passes it


@contextmanager
def _answering() -> Iterator[None]:
    """Unavailable where the broker does not answer."""
    try:
        yield
    except KafkaError as error:
        remedy = "check the broker; the learner resumes from its last checkpoint when it is started again"
        raise Unavailable("Kafka", str(error), remedy) from error


class Feed:
    """One consumer over everything that the learner follows."""

    def __init__(
        self, connections: Connections, offsets: Mapping[int, int], codebook_version: str, level_sizes: Sequence[int],
        quarantine: Callable[[Quarantined], None], verdict: Callable[[Verdict], None], clock_ms: int = 0,
    ) -> None:  # fmt: skip
        """``level_sizes``: codes of each level of the codebook. ``verdict`` is told each on the log's integrity. ``offsets``: next offset of each partition of the examples; a partition
        not named starts at its beginning. ``clock_ms``: newest event time that was read before.

        Raises:
            Unavailable: the broker or one of the topics is not there.
            Corrupt: the examples at these offsets are not there any more, or not yet: another topic has their name.
        """
        self._quarantine, self._verdict = quarantine, verdict
        with _answering():
            self._consumer = open_client(
                KafkaConsumer,
                connections,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=1000,
                fetch_max_wait_ms=50,
            )
        try:
            self._begin(offsets)
        except BaseException:
            self._consumer.close()
            raise
        self.taken = {where.partition: offsets.get(where.partition, 0) for where in self._examples}
        self.waiting: deque[Arrival] = deque()
        self.weights = RewardWeights()
        self.clock_ms = clock_ms
        self.snapshot: SnapshotPointer | None = None
        self.catalogue_offset = 0
        self._taker = ItemTaker("learner", codebook_version, level_sizes)
        self._items: list[tuple[int, ItemAdded]] = []  # records of the catalogue with their offsets
        self._refused: list[Quarantined] = []  # and those that were refused
        self._full, self._asked, self._ends = False, float("-inf"), dict[TopicPartition, int]()

    def poll(self, timeout_s: float, bound: int = QUEUE) -> None:
        """Take in what has come; waits at most ``timeout_s`` for the first record. Examples pause at ``bound``."""
        self._full = len(self.waiting) >= bound
        (self._consumer.pause if self._full else self._consumer.resume)(*self._examples)
        with _answering():
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        for where, records in batches.items():
            for record in records:
                if where.topic == EXAMPLES.name:
                    self.waiting.append(self._arrival(record))
                else:
                    self._follow(where.topic, record)
        self._taker.tell()

    def catch_up(self) -> None:
        """Read the weights, snapshots and catalogue up to their present ends.

        Raises:
            Unavailable: they do not come.
        """
        with _answering():
            ends, patience = self._consumer.end_offsets(self._news), Patience()
            while any(self._consumer.position(where) < end for where, end in ends.items()):
                self.poll(0.1)
                if patience.over(sum(map(self._consumer.position, ends))):
                    raise Unavailable("Kafka", f"records up to {ends} do not come", "check the broker")

    def take(self, offsets: Mapping[int, int]) -> list[Arrival]:
        """The records before these offsets that were not taken yet, in the order of their pages' event times.

        That order, not the order of arrival, is what a step sees: it is the same when the step is replayed. By time and not by partition,
        as the last ones of a backlog are those that are learned from and kept.

        Raises:
            Unavailable: the journal names records that do not come.
        """
        deadline = time.monotonic() + PATIENCE_S
        offsets = {**self.taken, **offsets}
        last = {p: offset - 1 for p, offset in offsets.items() if offset > self.taken[p]}
        while not all(any(a.partition == p and a.offset >= offset for a in self.waiting) for p, offset in last.items()):
            self.poll(0.1, bound=sys.maxsize)  # one partition's surplus must not keep the other's records out
            if time.monotonic() > deadline:
                raise Unavailable(f"topic {EXAMPLES.name}", f"no records up to {dict(offsets)}", "restore the topic")
        taken = [a for a in self.waiting if a.offset < offsets[a.partition]]
        self.waiting = deque(a for a in self.waiting if a.offset >= offsets[a.partition])
        self.taken = offsets
        return sorted(taken, key=lambda a: (a.example.ts if a.example else 0, a.partition, a.offset))

    def changes(self, offset: int) -> list[ItemAdded]:
        """The records of `catalogue.items` before ``offset``.

        Raises:
            Unavailable: the journal names records that do not come.
        """
        patience = Patience()
        while self.catalogue_offset < offset:
            self.poll(0.1)
            if patience.over(self.catalogue_offset):
                raise Unavailable(f"topic {ITEMS.name}", f"no records up to {offset}", "restore the topic")
        return [item for at, item in self._items if at < offset]

    def set_aside(self, start: int, end: int) -> None:
        """Put the refused records of `catalogue.items` at offsets from ``start`` to ``end`` (not included) into quarantine."""
        for record in self._refused:
            if start <= record.offset < end:
                self._quarantine(record)

    def lag(self) -> int:
        """Records of the examples that are in the log and not yet taken by a step: those that wait here, and what lies behind them.

        From where reading is and not from what was taken: it goes past the marks of transactions, for which no step waits.
        """
        if self._full and time.monotonic() - self._asked >= ASK_S:
            # What is not fetched does not say where its end is.
            with suppress(KafkaError):
                self._ends = self._consumer.end_offsets(self._examples, timeout_ms=int(ASK_S * 1000))
            self._asked = time.monotonic()
        end = {w: max(self._consumer.highwater(w) or 0, self._ends.get(w, 0)) for w in self._examples}
        return len(self.waiting) + sum(max(0, end[w] - self._position(w)) for w in self._examples)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def _position(self, where: TopicPartition) -> int:
        with _answering():
            found: int | None = self._consumer.position(where, timeout_ms=int(ASK_S * 1000))
        return self.taken[where.partition] if found is None else found

    def _begin(self, offsets: Mapping[int, int]) -> None:
        with _answering():
            self._examples = [TopicPartition(EXAMPLES.name, p) for p in self._partitions(EXAMPLES.name)]
            self._news = [TopicPartition(name, 0) for name in (WEIGHTS.name, SNAPSHOTS.name, ITEMS.name, VERDICTS.name)]
            self._consumer.assign(self._examples + self._news)
            self._check_kept(offsets)
        for where in self._examples:
            self._consumer.seek(where, offsets.get(where.partition, 0))
        for where in self._news:
            self._consumer.seek(where, 0)

    def _partitions(self, topic: str) -> list[int]:
        found = self._consumer.partitions_for_topic(topic)
        if not found:
            raise Unavailable(f"topic {topic}", "it does not exist", "create the topics with `headrace topics --create`")
        return sorted(found)

    def _check_kept(self, offsets: Mapping[int, int]) -> None:
        """Kafka would go on at the first record there is, and nobody would know what was passed over, or is learned again."""
        first, end = self._consumer.beginning_offsets(self._examples), self._consumer.end_offsets(self._examples)
        for where in self._examples:
            # At 0 nothing was read before: a new line of training begins with what there is.
            if (at := offsets.get(where.partition, 0)) and not first[where] <= at <= end[where]:
                raise Corrupt(
                    f"topic {EXAMPLES.name}, partition {where.partition}",
                    f"offset {at} comes next, and {first[where]} to {end[where]} are there",
                    "restore the topic; if it is gone, a new warm start (`headrace prepare`) begins with what there is",
                )

    def _arrival(self, record: Any) -> Arrival:
        where = record.partition, record.offset
        try:
            example: TrainingExample = decode(TrainingExample, record.value)
        except InvalidEvent as error:
            return Arrival(*where, None, record.timestamp, _quarantined(record, error))
        self.clock_ms = max(self.clock_ms, example.emitted_at)
        return Arrival(*where, example, record.timestamp)

    def _follow(self, topic: str, record: Any) -> None:
        """What cannot be read changes nothing. Of items it goes to quarantine with the step that passes it (`set_aside`); of the other
        topics, which each start reads from their beginning, it stands in the log."""
        try:
            if topic == ITEMS.name:
                self.catalogue_offset = record.offset + 1
                self._items.append((record.offset, self._taker.take(record.offset, record.value)))
            elif record.value is not None:
                self._learn_of(topic, record.value)
        except InvalidEvent as error:
            if topic == ITEMS.name:
                self._refused.append(_quarantined(record, error))
            else:
                log.error("refused, the one before stays", topic=topic, offset=record.offset, error=str(error))

    def _learn_of(self, topic: str, raw: bytes) -> None:
        if topic == WEIGHTS.name:
            told = decode(RewardWeights, raw)
            if told.version >= self.weights.version:  # two publishers that cross show an older one for a moment
                self.weights = told
        elif topic == SNAPSHOTS.name:
            self.snapshot = decode(SnapshotPointer, raw)
        elif topic == VERDICTS.name:
            self._verdict(decode(Verdict, raw))


def _quarantined(record: Any, error: InvalidEvent) -> Quarantined:
    raw: bytes = record.value or b""
    return Quarantined(
        "learner", record.topic, record.partition, record.offset, str(error.reason), str(error), raw[:RAW_LIMIT], len(raw),
        record.timestamp,
    )  # fmt: skip
