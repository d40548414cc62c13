"""A Kafka consumer for a background thread: it outlives a broker that goes away, and says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaConnectionError, KafkaError

from schemas.admission import admit_kafka
from schemas.connections import Connections
from schemas.kafka_clients import open_client

log = structlog.get_logger()

#: Pause before another attempt at a broker that does not answer (s).
RETRY_S = 1.0
#: Longest wait for a clean end of the group membership (ms); without it the group drops us a little later.
CLOSE_MS = 2_000
#: How long the broker keeps a fetch that finds nothing; one that comes to find something is answered at once (ms).
WAIT_MS = 500


def read(
    connections: Connections, begin: Callable[[KafkaConsumer], None], stop: threading.Event, poll_s: float, **options: Any
) -> Iterator[tuple[KafkaConsumer, list[Any]]]:
    """(consumer, records of a poll in order per partition) until ``stop``; a poll without records is yielded too.

    ``options`` are the consumer's own; ``begin`` chooses what it reads, and from where. After a failure both happen
    again, so where it begins decides what is read twice. KafkaError from it, or from a poll, is logged and tried again.

    Raises:
        Refused: the broker does not let us in.
    """
    consumer: KafkaConsumer | None = None
    try:
        while not stop.is_set():
            try:
                if consumer is None:
                    _reachable(connections.kafka)
                    admit_kafka(connections)
                    consumer = open_client(
                        KafkaConsumer, connections, enable_auto_commit=False, isolation_level="read_committed",
                        fetch_max_wait_ms=WAIT_MS, **options,
                    )  # fmt: skip
                    begin(consumer)
                batches = consumer.poll(timeout_ms=int(poll_s * 1000))
            except KafkaError as error:
                log.warning("kafka does not answer, trying again", error=f"{type(error).__name__} {error}")
                _close(consumer)
                consumer = None
                stop.wait(RETRY_S)
                continue
            yield consumer, [record for records in batches.values() for record in records]
    finally:
        _close(consumer)


def _reachable(bootstrap: str) -> None:
    """Raises KafkaConnectionError quickly; kafka-python takes seconds over it."""
    refusals = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
        except (OSError, ValueError) as error:
            refusals.append(f"{address}: {error}")
        else:
            return
    raise KafkaConnectionError("; ".join(refusals))


def _close(consumer: KafkaConsumer | None) -> None:
    if consumer is None:
        return
    try:
        # Leaving the group waits for an answer that, after the broker was away, may never come.
        consumer.close(timeout_ms=CLOSE_MS)
    except KafkaError as error:
        log.warning("kafka consumer did not close cleanly", error=str(error))
