"""Lag of those who read topics without being an agent of the chunk runtime: the learner and the keyword worker.

The learner's offsets stand in its journal, the keyword worker's with the broker, as its consumer group's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.asking import ask
from schemas.clients import librdkafka
from schemas.codec import decode
from schemas.connections import Connections
from schemas.journal import StepIntent
from schemas.topics import EXAMPLES, IMPRESSIONS, STEPS
from streams.integrity.hold import Hold, after
from streams.keywords.settings import GROUP
from streams.lag import Lag, age_s, with_skew
from streams.runtime.behind import event_time, records_behind, seconds_behind
from streams.runtime.log import TAIL, LogReader, Tail

#: Offsets before a position in which its last record is looked for; between them lie the marks of transactions.
LOOK = 16
#: A further look back into the journal takes in so many times more of it.
FURTHER = 8


def followers(connections: Connections, timeout_s: float = 30.0) -> list[Lag]:
    """Rows of the keyword worker and the learner, of those that have begun. ``watermark`` is the event time up to which
    they have read; ``sequence`` is the learner's step.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    groups = group_offsets(connections, GROUP, IMPRESSIONS.name, timeout_s)
    rows = reading(reader, "keywords", IMPRESSIONS.name, groups)
    intent, hold = _journal_end(reader)
    if intent is not None:
        learner = reading(reader, "learner", EXAMPLES.name, intent.offsets, intent.step, age_s(intent.created_ms))
    else:  # held before its first step: it has taken nothing
        learner = reading(reader, "learner", EXAMPLES.name, dict.fromkeys(range(connections.partitions), 0)) if hold else []
    rows += [replace(row, hold=hold) for row in learner]
    return with_skew(rows)


def reading(
    reader: LogReader, name: str, topic: str, offsets: Mapping[int, int], sequence: int = 0, age: float | None = None
) -> list[Lag]:
    """A row for each partition of ``offsets`` (partition -> next offset), in their order."""
    places = [(topic, partition) for partition in sorted(offsets)]
    tails = reader.tails(places) if places else {}
    rows = []
    for _, partition in places:
        tail, following = tails[topic, partition], offsets[partition]
        behind, watermark = records_behind(tail, following), _time_before(reader, topic, partition, following, tail)
        late = seconds_behind({topic: tail}, {topic: following}, {}, watermark)
        rows.append(Lag(name, partition, behind, watermark, sequence, age, {topic: behind}, late))
    return rows


def _time_before(reader: LogReader, topic: str, partition: int, following: int, tail: Tail) -> int:
    """Newest event time (ms) among the last records before an offset; 0 where nothing is kept there."""
    known = [event_time(record) for record in tail.records if record.offset < following]
    if known:
        return max(known)
    start = max(reader.bounds(topic, partition)[0], following - LOOK)
    batches = reader.read(topic, partition, start, following)
    return max((event_time(record) for batch in batches for record in batch), default=0)


def _journal_end(reader: LogReader) -> tuple[StepIntent | None, Hold | None]:
    """What the learner decided last, and whether it stands still since. It reports each step and each gate's decision, so an
    intent is near the end; but a hold is told for each broken window, and then it lies further back.
    """
    tail, look = reader.tails([(STEPS.name, 0)])[STEPS.name, 0], TAIL
    records = tail.records
    while True:
        intent, hold = None, None
        for record in records:
            entry = decode(STEPS.kind, record.value)
            intent, hold = entry if isinstance(entry, StepIntent) else intent, after(hold, entry)
        if intent is not None or tail.end <= look:
            return intent, hold
        look *= FURTHER
        start = max(reader.bounds(STEPS.name, 0)[0], tail.end - look)
        records = [record for batch in reader.read(STEPS.name, 0, start, tail.end) for record in batch]


def group_offsets(connections: Connections, group: str, topic: str, timeout_s: float) -> dict[int, int]:
    """Partition -> next offset that a consumer group has acknowledged; those without one are left out.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """

    def question(seconds: float) -> list[TopicPartition]:
        admin = AdminClient(librdkafka(connections))
        said = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=seconds)
        return list(said[group].result().topic_partitions)

    found = ask(connections, timeout_s, question)
    return {place.partition: place.offset for place in found if place.topic == topic and place.offset >= 0}
