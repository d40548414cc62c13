"""Sending events from outside a worker: replay, ticks, a record taken out of quarantine. Errors reach the sender."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.admission import admit_kafka
from schemas.clients import librdkafka
from schemas.codec import MAX_RECORD_BYTES
from schemas.connections import Connections
from schemas.errors import HeadraceError, InvalidRequest, Unavailable
from schemas.final import final

#: Records, and bytes, that may wait for delivery.
QUEUE_RECORDS, QUEUE_BYTES = 200_000, 256_000_000
#: Records, and about the bytes, handed over in one call.
BATCH_RECORDS, BATCH_BYTES = 10_000, 64_000_000


class EventProducer:
    """An idempotent producer; leaving its context waits until everything is delivered, or raises what was not.

    Records with a key and no partition go where every other client of this project puts them: Kafka's own murmur2 of the
    key. librdkafka's default is another hash, and would tear a user's events apart.
    """

    def __init__(self, connections: Connections, timeout_s: float = 60.0) -> None:
        """Raises Refused when the broker does not let us in."""
        admit_kafka(connections)
        self._address, self._timeout_s = connections.kafka, timeout_s
        self._failed: tuple[str, KafkaError] | None = None  #: topic, and why
        self._waiting_bytes = 0
        self._producer = Producer(
            {
                **librdkafka(connections),
                "enable.idempotence": True,
                "partitioner": "murmur2",
                "linger.ms": 5,
                "message.timeout.ms": int(timeout_s * 1_000),
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "delivery.report.only.error": True,
            }
        )

    def send(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1) -> None:
        """Queue one record; ``partition`` -1: by its key. Without a value it deletes what a compacted topic has under its key.

        Raises:
            InvalidRequest: the record is over the size limit.
            Refused: an earlier record's topic may not be written.
            Unavailable: an earlier record could not be delivered, or its topic is not there.
        """
        if self._failed is not None:
            raise self._error(*self._failed)
        while True:
            try:
                self._producer.produce(topic, value, key, partition=partition, on_delivery=self._delivered)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise self._error(topic, error.args[0], len(value or b"")) from error

    def send_batch(self, topic: str, records: Sequence[Mapping[str, bytes | int | None]]) -> None:
        """Queue records in order; each has ``value``, ``key`` and, if its key is not to choose it, ``partition``.

        Raises:
            InvalidRequest: a record is over the size limit.
            Refused: an earlier record's topic may not be written.
            Unavailable: an earlier record could not be delivered, or its topic is not there.
        """
        for batch, partition, size in _cut(records):
            self._make_room(len(batch), size)
            # The partition of a batch is heeded; that of a record in it, as its manual has it, is not (2.16).
            if self._producer.produce_batch(topic, batch, partition, on_delivery=self._delivered) < len(batch):
                refused = next(record for record in batch if "_error" in record)
                raise self._error(topic, cast(Any, refused["_error"]), len(cast(bytes, refused["value"])))

    def _make_room(self, count: int, size: int) -> None:
        """Wait until the queue takes all of them: a batch taken in part would have to be sent again out of order."""
        left = 0 if self._waiting_bytes + size > QUEUE_BYTES else QUEUE_RECORDS - count
        while self._failed is None and len(self._producer) > left:
            self._producer.poll(0.05)
        if self._failed is not None:
            raise self._error(*self._failed)
        self._waiting_bytes = size + (self._waiting_bytes if len(self._producer) else 0)
        self._producer.poll(0)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait for delivery; ``timeout_s`` for other than the producer's.

        Raises:
            Refused: a topic may not be written.
            Unavailable: not everything was delivered in time.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        left = self._producer.flush(timeout_s)
        if self._failed is not None:
            raise self._error(*self._failed)
        if left:
            raise Unavailable(f"Kafka at {self._address}", f"{left} records not delivered in {timeout_s} s", "send again")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = message.topic() or "", error

    def _error(self, topic: str, error: KafkaError, size: int = -1) -> HeadraceError:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return InvalidRequest(
                "record size", size if size >= 0 else "over", f"at most {MAX_RECORD_BYTES} bytes", "send it smaller"
            )
        found = final(topic, error, "write and describe")
        return found or Unavailable(f"Kafka at {self._address}", error.str(), "check the broker, then send again")

    def __enter__(self) -> EventProducer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.purge()


def _cut(
    records: Sequence[Mapping[str, bytes | int | None]],
) -> Iterator[tuple[list[Mapping[str, bytes | int | None]], int, int]]:
    """The records in batches, each with the partition of all in it (-1: by key) and its size (bytes)."""
    batch, place, size = list[Mapping[str, bytes | int | None]](), -1, 0
    for record in records:
        partition = cast(int, record.get("partition", -1))
        if batch and (partition != place or len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES):
            yield batch, place, size
            batch, size = [], 0
        batch.append(record)
        place = partition
        size += len(cast(bytes, record["value"]))
    if batch:
        yield batch, place, size
