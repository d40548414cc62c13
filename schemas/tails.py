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
from schemas.final import final
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
    connections: Connections,
    topic: Topic,
    starts: Mapping[int, int],
    enough: Callable[[Message], bool] = lambda _: False,
    others: bool = False,
    patience_s: float = PATIENCE_S,
) -> Iterator[Message]:
    """Committed records of partitions from ``starts`` (partition -> offset) to their ends as they are now, each in order.

    ``enough``: asked of each record; a partition ends, without it, where the answer is yes. ``others``: partitions that
    ``starts`` does not name are read too, from their beginning.

    Raises:
        Refused: the broker does not let us read the topic.
        Unavailable: no records for ``patience_s`` of partitions that have not ended, or there is no such topic.
    """
    with _consumer(connections) as consumer:
        spans = _ends(consumer, connections, topic, patience_s)
        begin = {p: max(starts.get(p, 0), low) for p, (low, _) in spans.items() if others or p in starts}
        waiting = {p for p, start in begin.items() if start < spans[p][1]}
        consumer.assign([TopicPartition(topic.name, p, begin[p]) for p in waiting])

        def done(partition: int) -> None:
            """Nothing more of it: what is still written to it would come in place of what is waited for."""
            waiting.discard(partition)
            consumer.pause([TopicPartition(topic.name, partition)])

        deadline = time.monotonic() + patience_s
        while waiting:
            came = False
            for message in consumer.consume(2_000, _POLL_S):
                partition, error = message.partition(), message.error()
                if error is not None:
                    _raise_if_final(topic, error)
                    if error.code() == KafkaError._PARTITION_EOF:
                        done(partition)
                    continue  # anything else the client gets over by itself, or the deadline ends it
                if partition not in waiting:
                    continue  # it was on its way when the partition was let go
                came = True
                end = spans[partition][1]
                if message.offset() >= end or enough(message):
                    done(partition)
                    continue
                if message.offset() >= end - 1:
                    done(partition)
                yield message
            if came:
                deadline = time.monotonic() + patience_s
            elif waiting and time.monotonic() > deadline:
                raise _away(connections, f"{topic.name}: no records of partitions {sorted(waiting)} in {patience_s:g} s")


def _raise_if_final(topic: Topic, error: KafkaError) -> None:
    if (found := final(topic.name, error, "read and describe")) is not None:
        raise found


def _ends(consumer: Consumer, connections: Connections, topic: Topic, patience_s: float = PATIENCE_S) -> Bounds:
    try:
        found = consumer.list_topics(topic.name, timeout=patience_s).topics[topic.name]
        if found.error is not None:
            _raise_if_final(topic, found.error)
            raise KafkaException(found.error)
    except KafkaException as error:
        raise _away(connections, str(error)) from error
    spans = bounds(connections, [(topic.name, p) for p in sorted(found.partitions)], patience_s)
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
