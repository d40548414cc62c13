"""Reading topics from near their ends, with the client that is fast at it: committed records only, no group, nothing kept.

A consumer made for each read: assigning one again costs a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.admission import admit_kafka
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.offsets import bounds
from schemas.topics import Topic

#: Longest wait for the broker without progress (s).
PATIENCE_S = 10.0
#: A poll that finds less than it asks for costs this long (s).
_POLL_S = 0.05

Bounds = dict[int, tuple[int, int]]


def ends(connections: Connections, topic: Topic) -> Bounds:
    """Partition -> (first offset kept, end offset).

    Raises:
        Unavailable: the broker does not answer, or has no such topic.
    """
    with _consumer(connections) as consumer:
        return _ends(consumer, connections, topic)


def since(connections: Connections, topic: Topic, time_ms: Mapping[int, int]) -> dict[int, int]:
    """Partition -> offset of its first record that was written at or after ``time_ms[partition]`` (broker's time, ms); the end
    where there is none.

    Raises:
        Unavailable: as `ends`.
    """
    with _consumer(connections) as consumer:
        spans = _ends(consumer, connections, topic)
        asked = [TopicPartition(topic.name, p, ms) for p, ms in time_ms.items() if p in spans]
        try:
            found = consumer.offsets_for_times(asked, timeout=PATIENCE_S) if asked else []
        except KafkaException as error:
            raise _away(connections, str(error)) from error
        return {one.partition: one.offset if one.offset >= 0 else spans[one.partition][1] for one in found}


def read(
    connections: Connections, topic: Topic, starts: Mapping[int, int], enough: Callable[[Message], bool] = lambda _: False
) -> Iterator[Message]:
    """Committed records of partitions from ``starts`` (partition -> offset) to their ends as they are now, each in order.

    ``enough``: asked of each record; a partition ends, without it, where the answer is yes.

    Raises:
        Unavailable: no progress for `PATIENCE_S`.
    """
    with _consumer(connections) as consumer:
        spans = _ends(consumer, connections, topic)
        begin = {p: max(start, spans[p][0]) for p, start in starts.items() if p in spans}
        waiting = {p for p, start in begin.items() if start < spans[p][1]}
        consumer.assign([TopicPartition(topic.name, p, begin[p]) for p in waiting])
        deadline = time.monotonic() + PATIENCE_S
        while waiting:
            for message in consumer.consume(2_000, _POLL_S):
                deadline = time.monotonic() + PATIENCE_S
                partition, error = message.partition(), message.error()
                if partition not in waiting:
                    continue
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        waiting.discard(partition)
                    continue  # anything else the client gets over by itself, or the deadline ends it
                end = spans[partition][1]
                if message.offset() >= end or enough(message):
                    waiting.discard(partition)
                    continue
                if message.offset() >= end - 1:
                    waiting.discard(partition)
                yield message
            if waiting and time.monotonic() > deadline:
                raise _away(connections, f"{topic.name}: no records of partitions {sorted(waiting)} in {PATIENCE_S:g} s")


def _ends(consumer: Consumer, connections: Connections, topic: Topic) -> Bounds:
    try:
        found = consumer.list_topics(topic.name, timeout=PATIENCE_S).topics[topic.name]
        if found.error is not None:
            raise Unavailable(f"topic {topic.name}", found.error.str(), "create the topics with `headrace topics --create`")
    except KafkaException as error:
        raise _away(connections, str(error)) from error
    spans = bounds(connections, [(topic.name, p) for p in sorted(found.partitions)], PATIENCE_S)
    return {partition: span for (_, partition), span in spans.items()}


def _away(connections: Connections, detail: str) -> Unavailable:
    return Unavailable(f"Kafka at {connections.kafka}", detail, "check HEADRACE_KAFKA, and that the broker runs")


@contextmanager
def _consumer(connections: Connections) -> Iterator[Consumer]:
    admit_kafka(connections)
    consumer = Consumer(
        {
            **librdkafka(connections),
            "group.id": "headrace-tails",  # demanded by the client; nothing is ever committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            "fetch.error.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "log_level": 3,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
