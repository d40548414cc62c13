"""Reading a stretch of a partition, committed records only, with the client that is fast at it.

librdkafka's consumer is used without a group: a new reader for each stretch, because assigning again costs a second.

A compressed batch that the client will not unpack (zstd past `UNPACKED_BYTES`, or broken) is passed over: one record larger
than any may be stands for it at its last offset, as in a worker (`streams.runtime.overfull`). The client tells no more of it
than its first offset, and tells it again for each of its offsets: so the last one is searched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from schemas.admission import admit_kafka
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.offsets import bounds
from streams.runtime.core import Record
from streams.runtime.refusal import StandIn
from streams.runtime.topic_ids import topic_ids

logger = structlog.get_logger(__name__)

#: Waiting for more than there is costs the whole timeout, so it is short (s).
POLL_S = 0.05
#: What the client unpacks of a zstd batch, and what it takes in an answer of the broker (bytes).
UNPACKED_BYTES = 100_000_000
#: Offsets at the end of a partition that `LogReader.tails` looks at.
TAIL = 64


class Tail(NamedTuple):
    """The end of a partition: the offset after its last committed record, and those of its last `TAIL` offsets that hold
    records (the others hold the marks of transactions)."""

    end: int
    records: list[Record]


class LogReader:
    """Reads partitions of one cluster. ``timeout_s`` bounds every wait for the broker. Once ``stopping`` is set nothing more is
    read."""

    def __init__(self, connections: Connections, timeout_s: float, stopping: Event | None = None) -> None:
        """Raises Refused when the broker does not let us in."""
        admit_kafka(connections)
        self._connections, self._timeout_s, self._stopping = connections, timeout_s, stopping or Event()

    def bounds(self, topic: str, partition: int, stable: bool = False) -> tuple[int, int]:
        """(first offset kept, end offset); the end counts records of open transactions too, or with ``stable`` it is where the
        first of them begins: nobody who reads up to there has to wait for it.

        Raises:
            Unavailable: the broker does not answer in time.
        """
        return bounds(self._connections, [(topic, partition)], self._timeout_s, stable)[topic, partition]

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """See `streams.runtime.topic_ids`."""
        return topic_ids(self._connections, topics, self._timeout_s) if topics else {}

    def check(self, topic: str, partition: int, offset: int) -> None:
        """That a reader can go on at ``offset``: nothing from there on was deleted or cut off.

        Raises:
            Corrupt: it is not in the partition, nor its end. Of what is gone nobody can tell any more whether it was records or
                marks of transactions alone.
            Unavailable: the broker does not answer in time.
        """
        low, high = self.bounds(topic, partition)
        if not low <= offset <= high:
            gone = f"; {low - offset} gone, records or marks of transactions" if offset < low else ""
            raise lost(topic, partition, f"offset {offset} needed, {low} is the first kept, {high} the end{gone}")

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Record]]:
        """Committed records with ``start <= offset < end``, in batches.

        Waits for transactions that are still open below ``end``: leaving them out could hide a later, committed record.

        Raises:
            Corrupt: ``start`` is not there.
            Unavailable: no progress for the timeout, or a stop was asked for.
        """
        if start >= end:
            return
        self.check(topic, partition, start)
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(topic, partition, start)])
            deadline = time.monotonic() + self._timeout_s
            while True:
                if self._stopping.is_set():
                    raise Unavailable(f"{topic}/{partition}", "the process stops", "the next start reads it again")
                messages = consumer.consume(2_000, POLL_S)
                batch, done, refused = _batch(messages, end)
                if refused is not None:
                    last = self._last_of(consumer, topic, partition, refused)
                    batch.append(_stand_in(topic, partition, refused, last))
                    consumer.seek(TopicPartition(topic, partition, last + 1))
                    done = last >= end - 1
                if batch:
                    yield batch
                if done:
                    return
                if messages:
                    deadline = time.monotonic() + self._timeout_s
                elif time.monotonic() > deadline:
                    raise _silent(
                        self._connections.kafka, f"{topic}/{partition} below {end} not readable in {self._timeout_s} s"
                    )

    def tails(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Tail]:
        """The ends of many partitions (topic, number) with one client; records of open transactions are not in them.

        Raises:
            Unavailable: no progress for the timeout.
        """
        spans = bounds(self._connections, places, self._timeout_s)
        found = {place: Tail(high, []) for place, (_, high) in spans.items()}
        waiting = {place for place, (low, high) in spans.items() if low < high}
        starts = {place: max(spans[place][0], spans[place][1] - TAIL) for place in waiting}
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
            deadline = time.monotonic() + self._timeout_s
            while waiting:
                for message in consumer.consume(2_000, POLL_S):
                    place = (message.topic(), message.partition())
                    if (error := message.error()) is None:
                        if message.offset() < found[place].end:
                            found[place].records.append(_record(message))
                        if message.offset() >= found[place].end - 1:
                            waiting.discard(place)
                    elif error.code() in (KafkaError._PARTITION_EOF, KafkaError._BAD_COMPRESSION):
                        waiting.discard(place)  # what such a batch holds is not known
                if waiting and time.monotonic() > deadline:
                    raise _silent(
                        self._connections.kafka, f"the ends of {sorted(waiting)} not readable in {self._timeout_s} s"
                    )
            return found

    def _last_of(self, consumer: Consumer, topic: str, partition: int, first: int) -> int:
        """Last offset of the batch that begins at ``first``, which the client does not unpack."""
        _, high = self.bounds(topic, partition)
        inside, step = first, 1
        while inside + step < high and self._refused(consumer, topic, partition, inside + step) == first:
            inside, step = inside + step, 2 * step
        outside = min(inside + step, high)
        while outside - inside > 1:
            middle = (inside + outside) // 2
            if self._refused(consumer, topic, partition, middle) == first:
                inside = middle
            else:
                outside = middle
        return inside

    def _refused(self, consumer: Consumer, topic: str, partition: int, offset: int) -> int | None:
        """First offset of the batch that holds ``offset``, if the client does not unpack it."""
        consumer.seek(TopicPartition(topic, partition, offset))
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            for message in consumer.consume(1, POLL_S):
                error = message.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    return None
                if error.code() == KafkaError._BAD_COMPRESSION:
                    return int(message.offset())
        raise _silent(self._connections.kafka, f"{topic}/{partition} at {offset} not readable in {self._timeout_s} s")

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **librdkafka(self._connections),
                "group.id": "headrace-reader",  # demanded by the client; nothing is ever committed under it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "receive.message.max.bytes": UNPACKED_BYTES,
                "fetch.wait.max.ms": 20,
                "fetch.error.backoff.ms": 50,
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()


def _batch(messages: list[Message], end: int) -> tuple[list[Record], bool, int | None]:
    """Records below ``end``, whether that was reached, and the first offset of the batch behind them if it is not unpacked."""
    batch: list[Record] = []
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # The end of what is stable: an open transaction may still hide records below ``end``.
                if message.offset() >= end:
                    return batch, True, None
                continue
            if error.code() == KafkaError._BAD_COMPRESSION:
                return batch, False, int(message.offset())
            if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise lost(message.topic(), message.partition(), str(error))
            continue  # the client goes on by itself; the caller's deadline bounds it
        offset = message.offset()
        if offset >= end:
            return batch, True, None
        batch.append(_record(message))
        if offset == end - 1:
            return batch, True, None
    return batch, False, None


def _record(message: Message) -> Record:
    return Record(message.offset(), message.timestamp()[1], message.key(), message.value() or b"")


def _stand_in(topic: str, partition: int, first: int, last: int) -> Record:
    """For a batch that is passed over."""
    stand_in = StandIn.of(topic, partition, first, last, -1, "the client does not unpack it")
    logger.warning("batch not unpacked, one record too large stands for it", place=stand_in.told.decode())
    return stand_in


def lost(topic: str, partition: int, detail: str) -> Corrupt:
    """Of an input that does not hold what its reader has to read next."""
    return Corrupt(
        f"{topic}/{partition}",
        detail,
        "lengthen its retention; how to go on without it: docs/operations.md, what to do when",
    )


def _silent(bootstrap: str, detail: str) -> Unavailable:
    return Unavailable(f"Kafka at {bootstrap}", detail, "check that the broker runs; `headrace doctor` says more")
