"""The journal: what each step will read, then what came of it, appended to ``training.steps``.

A write returns when every replica has it. Replaying the intents after a checkpoint remakes the steps exactly.

It has one writer. A learner begins with a record that says so, and every later one of it carries that record's offset, its
term. A learner that finds a newer term behind what it wrote last has been taken over from, and ends; the record by which it
found out is of an older term than the one before it, and no reader counts it. So of two learners, on whatever machines, the
later one goes on, and what both have written is one line of training.

A line begins with a warm start. Every record carries its name, so that a learner from another warm start, in the same topic,
neither takes the steps of the line before again nor is taken for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.admission import admit_kafka
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import Conflict, Unavailable
from schemas.journal import GateDecision, JournalRecord, LearnerStart
from schemas.kafka_clients import open_client
from schemas.topics import STEPS, Topic
from trainers.lines import Line
from trainers.patience import Patience

#: Longest wait for the broker to take a record (seconds).
PATIENCE_S = 120.0
#: Header of a record: the offset at which its writer took the journal over.
TERM: Final = "term"
#: Header of a record: the warm start of the writer's line.
LINE: Final = "line"


class Journal:
    """Writes records of the learner. Every write is durable when it returns."""

    def __init__(self, connections: Connections, line: str = "") -> None:
        """Takes the journal over. ``line``: the warm start that training goes on from; empty: its records are of every line.

        Raises:
            Refused: the broker does not let us in.
            Unavailable: it does not take the record in time.
        """
        admit_kafka(connections)
        self._connections, self._line = connections, [(LINE, line.encode())] if line else []
        self._producer = open_client(
            KafkaProducer, connections, acks="all", enable_idempotence=True, delivery_timeout_ms=int(PATIENCE_S * 1000)
        )
        here = LearnerStart(f"{os.getpid()} of {socket.gethostname()}", int(time.time() * 1000))
        self._end = self._write(STEPS, b"start", here, [])
        self._term = self._end - 1

    def append(self, record: JournalRecord) -> int:
        """Add to the journal; returns the offset after the record.

        Raises:
            Conflict: another learner has taken over; the record does not count.
            Unavailable: the broker did not take it in time.
        """
        key = record.checkpoint if isinstance(record, GateDecision) else str(record.step)
        end = self._write(STEPS, key.encode(), record, [(TERM, b"%d" % self._term), *self._line])
        if end != self._end + 1:
            self._check_alone(end)
        self._end = end
        return end

    def send_all(self, topic: Topic, key: bytes, records: Iterable[msgspec.Struct]) -> None:
        """`send` of many, with one wait for all of them.

        Raises:
            Unavailable: the broker did not take them in time.
        """
        try:
            futures = [self._producer.send(topic.name, key=key, value=encode(record), partition=0) for record in records]
            self._producer.flush(timeout=PATIENCE_S)
            for future in futures:
                future.get(timeout=PATIENCE_S)
        except KafkaError as error:
            raise _away(topic, error) from error

    def send(self, topic: Topic, key: bytes, record: msgspec.Struct) -> int:
        """Write to partition 0 of any topic of the learner; returns the offset after the record.

        Raises:
            Unavailable: the broker did not take it in time.
        """
        return self._write(topic, key, record, [])

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close(timeout=10)

    def _write(self, topic: Topic, key: bytes, record: msgspec.Struct, headers: list[tuple[str, bytes]]) -> int:
        try:
            future = self._producer.send(topic.name, key=key, value=encode(record), headers=headers, partition=0)
            self._producer.flush(timeout=PATIENCE_S)
            return int(future.get(timeout=PATIENCE_S).offset) + 1
        except KafkaError as error:
            raise _away(topic, error) from error

    def _check_alone(self, end: int) -> None:
        """Somebody has written since: a learner before us, which has not noticed yet, or one that takes over."""
        for found in read_raw(self._connections, STEPS, self._end):
            record = decode(STEPS.kind, found.value)
            if found.offset < end and isinstance(record, LearnerStart):
                remedy = "this one ends; if it is started again it takes over in turn, so stop one of the two"
                raise Conflict("the journal of this Kafka", f"another learner, process {record.where}", remedy)


def _away(topic: Topic, error: KafkaError) -> Unavailable:
    return Unavailable(f"topic {topic.name}", str(error), "the learner stops and resumes when it is started again")


def read_topic(connections: Connections, topic: Topic, start: int = 0) -> list[Any]:
    """Every committed record of partition 0 from ``start`` to the end as it is now, decoded.

    Raises:
        Unavailable: the broker stops answering.
        InvalidEvent: a record does not have the topic's form.
    """
    return [decode(topic.kind, raw.value) for raw in read_raw(connections, topic, start)]


class Raw(NamedTuple):
    """A record as it lies in the topic."""

    offset: int
    value: bytes
    term: int  #: of the learner that wrote it; -1: before there were terms, or not a record of the journal
    line: str = ""  #: of the learner that wrote it; empty: before there were lines, or not a record of the journal


def read_journal(connections: Connections, start: int = 0, line: Line | None = None) -> list[JournalRecord]:
    """The journal's records from ``start`` to the end as it is now, but those that do not count and who took over when.
    ``line``: without those of other lines; None: of all.

    Raises:
        Unavailable: the broker stops answering.
        InvalidEvent: a record does not have the topic's form.
    """
    # The record before tells whose turn it was.
    raws = read_raw(connections, STEPS, max(0, start - 1))
    named = {raw.offset: raw.line for raw in raws}
    found = standing((raw.offset, raw.term, decode(STEPS.kind, raw.value)) for raw in raws)
    own = ((offset, record) for offset, record in found if offset >= start)
    return [record for offset, record in own if line is None or line.wrote(named[offset], record.created_ms)]


def standing(found: Iterable[tuple[int, int, JournalRecord | LearnerStart]]) -> Iterator[tuple[int, JournalRecord]]:
    """(offset, record) of what counts, from (offset, term, record) in order: nothing of a term that is over, no `LearnerStart`."""
    newest = -1
    for offset, term, record in found:
        if isinstance(record, LearnerStart):
            newest = offset
        elif term >= newest:
            newest = term
            yield offset, record


def read_raw(connections: Connections, topic: Topic, start: int = 0) -> list[Raw]:
    """Every committed record of partition 0 from ``start`` to the end as it is now.

    Raises:
        Unavailable: the broker stops answering.
    """
    admit_kafka(connections)
    where = TopicPartition(topic.name, 0)
    consumer = open_client(KafkaConsumer, connections, isolation_level="read_committed", enable_auto_commit=False)
    try:
        consumer.assign([where])
        consumer.seek(where, start)
        end, records = consumer.end_offsets([where])[where], list[Raw]()
        patience = Patience()
        while (at := consumer.position(where)) < end:
            if patience.over(at):
                raise Unavailable(f"topic {topic.name}", f"its records up to {end} do not come", "check the broker")
            for batch in consumer.poll(timeout_ms=200).values():
                records += [_raw(record) for record in batch if record.offset < end]
        return records
    except KafkaError as error:
        raise Unavailable(f"topic {topic.name}", str(error), "check the broker") from error
    finally:
        consumer.close()


def _raw(record: Any) -> Raw:
    headers = dict(record.headers)
    return Raw(record.offset, record.value, int(headers.get(TERM, b"-1")), headers.get(LINE, b"").decode())
