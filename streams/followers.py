"""Lag of those who read topics without being an agent of the chunk runtime: the learner and the keyword worker.

The learner's offsets stand in its journal, the keyword worker's with the broker, as its consumer group's.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.clients import librdkafka
from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.journal import StepIntent
from schemas.topics import EXAMPLES, IMPRESSIONS, STEPS
from streams.keywords.settings import GROUP
from streams.lag import Lag, age_s, with_skew
from streams.runtime.behind import event_time, records_behind, seconds_behind
from streams.runtime.log import LogReader, Tail

#: Offsets before a position in which its last record is looked for; between them lie the marks of transactions.
LOOK = 16


def followers(connections: Connections, timeout_s: float = 30.0) -> list[Lag]:
    """Rows of the keyword worker and the learner, of those that have begun. ``watermark`` is the event time up to which
    they have read; ``sequence`` is the learner's step.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    groups = group_offsets(connections, GROUP, IMPRESSIONS.name, timeout_s)
    rows = reading(reader, "keywords", IMPRESSIONS.name, groups)
    intent = _last_intent(reader)
    if intent is not None:
        rows += reading(reader, "learner", EXAMPLES.name, intent.offsets, intent.step, age_s(intent.created_ms))
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


def _last_intent(reader: LogReader) -> StepIntent | None:
    """What the learner decided last. It reports each step and each gate's decision, so an intent is near the end."""
    for record in reversed(reader.tails([(STEPS.name, 0)])[STEPS.name, 0].records):
        entry = decode(STEPS.kind, record.value)
        if isinstance(entry, StepIntent):
            return entry
    return None


def group_offsets(connections: Connections, group: str, topic: str, timeout_s: float) -> dict[int, int]:
    """Partition -> next offset that a consumer group has acknowledged; those without one are left out.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    admin = AdminClient(librdkafka(connections))
    try:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=timeout_s)
        found = asked[group].result(timeout_s).topic_partitions
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"Kafka at {connections.kafka}", str(error), "check that the broker runs") from error
    return {place.partition: place.offset for place in found if place.topic == topic and place.offset >= 0}
