"""Where the delivery's records go: Kafka. Every record is acknowledged by all replicas and counted."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, Protocol

from confluent_kafka import KafkaException, Producer
from kafka.partitioner.default import murmur2

from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Unavailable

#: How long a record may wait for a broker that is away (ms).
PATIENCE_MS = 180_000


class Sink(Protocol):
    """Takes records; `flush` returns when all are kept, in the order of their partition."""

    acked: Counter[str]  #: records kept, by topic

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        ...

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Hand over one record."""
        ...

    def flush(self) -> None:
        """Wait until everything handed over is kept."""
        ...


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: Kafka's murmur2, as librdkafka's ``murmur2_random`` and Java's default have it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class KafkaSink:
    """Through confluent-kafka's idempotent producer. Partitions are chosen here, so that ticks keep their place."""

    def __init__(self, connections: Connections) -> None:
        self.acked: Counter[str] = Counter()
        self._address = connections.kafka
        self._failed = ""
        self._partitions: dict[str, int] = {}
        self._producer = Producer(
            {
                **librdkafka(connections),
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "message.timeout.ms": PATIENCE_MS,
                "message.max.bytes": 16_000_000,
                "compression.type": "lz4",
                "log_level": 2,  # what fails is told by `flush`; a broker that ends before us is no failure
            }
        )

    def partitions(self, topic: str) -> int:
        """Asked of the broker once.

        Raises:
            Unavailable: the broker does not answer, or has no such topic.
        """
        if topic not in self._partitions:
            try:
                found = self._producer.list_topics(topic, timeout=30).topics[topic]
            except KafkaException as error:
                raise Unavailable(f"Kafka at {self._address}", str(error), "check that the broker is up") from error
            if found.error is not None or not found.partitions:
                raise Unavailable(f"topic {topic}", str(found.error), "create the topics with `headrace topics --create`")
            self._partitions[topic] = len(found.partitions)
        return self._partitions[topic]

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Queue one record; waits when the queue is full."""
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, partition=partition, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Wait for the acknowledgements.

        Raises:
            Unavailable: a record could not be delivered within `PATIENCE_MS`.
        """
        self._producer.flush()
        if self._failed:
            raise Unavailable(f"Kafka at {self._address}", self._failed, "check the broker's log and the topic's settings")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acked[message.topic()] += 1
        else:
            self._failed = f"a record for {message.topic()} was not kept: {error}"
