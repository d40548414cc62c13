"""Read a topic's present content once, from a start to the end it has now, decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from schemas.admission import admit_kafka
from schemas.codec import decode
from schemas.connections import Connections
from schemas.kafka_clients import open_client
from schemas.topics import Topic


class Entry(NamedTuple):
    """A decoded record and where it lies. ``timestamp`` is the broker's time for it (ms)."""

    partition: int
    offset: int
    timestamp: int
    record: Any


def scan(connections: Connections, topic: Topic, start: dict[int, int] | None = None) -> Iterator[Entry]:
    """Every committed record from ``start`` (partition -> offset; default: the beginning) to the end offsets of now.

    Records without a value (a compacted topic's deletions) are passed over.

    Raises:
        InvalidEvent: a record cannot be decoded; topics that outsiders write to are read with `scan_raw`.
    """
    for partition, offset, timestamp, value in scan_raw(connections, topic.name, start):
        yield Entry(partition, offset, timestamp, decode(topic.kind, value, limit=len(value)))


def scan_raw(
    connections: Connections, topic: str, start: dict[int, int] | None = None
) -> Iterator[tuple[int, int, int, bytes]]:
    """(partition, offset, timestamp, value) of every committed record from ``start`` to the end offsets of now."""
    admit_kafka(connections)
    consumer = open_client(
        KafkaConsumer,
        connections,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=5_000,
        fetch_max_wait_ms=50,
    )
    try:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = consumer.end_offsets(parts)
        consumer.assign(parts)
        for part in parts:
            if start and part.partition in start:
                consumer.seek(part, start[part.partition])
            else:
                consumer.seek_to_beginning(part)
        waiting = {part for part in parts if consumer.position(part) < ends[part]}
        while waiting:
            for part, records in consumer.poll(timeout_ms=200).items():
                for record in records:
                    if record.offset < ends[part] and record.value is not None:
                        yield part.partition, record.offset, record.timestamp, record.value
            waiting = {part for part in waiting if consumer.position(part) < ends[part]}
    finally:
        consumer.close()
