"""The journal: what each step will read, then what came of it, appended to ``training.steps``.

A write returns when every replica has it. Replaying the intents after a checkpoint remakes the steps exactly.

It has one writer. A learner begins with a record that says so, and every later one of it carries that record's offset, its
term. A learner that finds a newer term behind what it wrote last has been taken over from, and ends; the record by which it
found out is of an older term than the one before it, and no reader counts it. So of two learners, on whatever machines, the
later one goes on, and what both have written is one line of training.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from pydantic import ValidationError

from schemas.admission import admit_kafka
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import Conflict, Corrupt, Incompatible, Unavailable
from schemas.journal import GateDecision, GuardAlarm, JournalRecord, LearnerStart, StepIntent, StepResult, TrainingSettings
from schemas.kafka_clients import open_client
from schemas.topics import STEPS, Topic
from trainers.settings import LearnerSettings

#: Longest wait for the broker to take a record, and to hand the journal out (seconds).
PATIENCE_S = 120.0
#: Header of a record: the offset at which its writer took the journal over.
TERM: Final = "term"


class Journal:
    """Writes records of the learner. Every write is durable when it returns."""

    def __init__(self, connections: Connections) -> None:
        """Takes the journal over.

        Raises:
            Refused: the broker does not let us in.
            Unavailable: it does not take the record in time.
        """
        admit_kafka(connections)
        self._connections = connections
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
        end = self._write(STEPS, key.encode(), record, [(TERM, b"%d" % self._term)])
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


def read_journal(connections: Connections, start: int = 0) -> list[JournalRecord]:
    """The journal's records from ``start`` to the end as it is now, but those that do not count and who took over when.

    Raises:
        Unavailable: the broker stops answering.
        InvalidEvent: a record does not have the topic's form.
    """
    # The record before tells whose turn it was.
    found = [
        (raw.offset, raw.term, decode(STEPS.kind, raw.value)) for raw in read_raw(connections, STEPS, max(0, start - 1))
    ]
    return [record for offset, record in standing(found) if offset >= start]


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
        deadline = time.monotonic() + PATIENCE_S
        while consumer.position(where) < end:
            for batch in consumer.poll(timeout_ms=200).values():
                records += [Raw(record.offset, record.value, _term(record)) for record in batch if record.offset < end]
            if time.monotonic() > deadline:
                raise Unavailable(f"topic {topic.name}", f"its records up to {end} do not come", "check the broker")
        return records
    except KafkaError as error:
        raise Unavailable(f"topic {topic.name}", str(error), "check the broker") from error
    finally:
        consumer.close()


def _term(record: Any) -> int:
    return int(dict(record.headers).get(TERM, b"-1"))


def intents_after(records: Sequence[JournalRecord], step: int) -> list[StepIntent]:
    """The intents that continue a checkpoint of ``step``, in order, each once.

    Raises:
        Corrupt: a step is missing, or one step has two different intents.
    """
    found: dict[int, StepIntent] = {}
    for record in records:
        if isinstance(record, StepIntent) and record.step > step and found.setdefault(record.step, record) != record:
            raise Corrupt(f"topic {STEPS.name}", f"two intents for step {record.step}", "two learners ran at once; stop one")
    for expected, number in enumerate(sorted(found), start=step + 1):
        if number != expected:
            raise Corrupt(f"topic {STEPS.name}", f"step {expected} is missing before step {number}", "restore the topic")
    return [found[number] for number in sorted(found)]


def settings_before(records: Sequence[JournalRecord], step: int, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The learner's settings under which ``step`` was taken; ``known`` are those of the checkpoint that the records follow."""
    told = [record.settings for record in records if isinstance(record, TrainingSettings) and record.step < step]
    return told[-1] if told else known


#: What was so before there was a setting for it, where the default is another.
UNSAID: Final[Mapping[str, Any]] = {"served_share": 1.0}


def settings_at(
    records: Sequence[JournalRecord], step: int, known: Mapping[str, Any], otherwise: LearnerSettings
) -> LearnerSettings:
    """`settings_before` as settings; ``otherwise`` where nothing was ever told.

    Raises:
        Incompatible: this version of the code does not understand them.
    """
    said = settings_before(records, step, known)
    try:
        return LearnerSettings.model_validate({**UNSAID, **said}) if said else otherwise
    except ValidationError as error:
        raise Incompatible(
            f"settings of step {step}", "settings of this version", str(error),
            "take the step again with the version that decided it, stop it in good order, and update then",
        ) from error  # fmt: skip


def restored_after(records: Sequence[JournalRecord], step: int) -> str:
    """The checkpoint from which training went on after ``step``, where a guard sent it back; empty where none did."""
    back = [r.restored for r in records if isinstance(r, GuardAlarm) and r.step == step and r.restored]
    return back[-1] if back else ""


def check_scorer(intents: Sequence[StepIntent], before: str, present: str) -> None:
    """Refuse to take steps again with tiers of another relevance scorer than they were taken with. ``before``: the scorer that
    the checkpoint names, for intents that name none.

    Raises:
        Incompatible: ``present`` is another one.
    """
    for intent in intents:
        made_with = intent.relevance_version or before
        if made_with != present:
            remedy = (
                f"`headrace relevance use {made_with}`, start the learner and stop it in good order: it leaves a checkpoint, "
                "from which any scorer may go on"
            )
            raise Incompatible(f"relevance scorer of the journalled step {intent.step}", made_with, present, remedy)


def results_of(records: Sequence[JournalRecord]) -> set[int]:
    """Steps whose result is in the journal."""
    return {record.step for record in records if isinstance(record, StepResult)}


def decisions_of(records: Sequence[JournalRecord]) -> dict[str, GateDecision]:
    """The last decision about each checkpoint."""
    return {record.checkpoint: record for record in records if isinstance(record, GateDecision)}
