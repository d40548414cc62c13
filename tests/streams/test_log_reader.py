"""The reader of stretches of a log, where what it reads does not let itself be read."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from schemas.codec import MAX_RECORD_BYTES
from schemas.connections import Connections
from schemas.topics import CLICKS
from streams.runtime.log import UNPACKED_BYTES, LogReader

SIZE = 100_000
#: Values of `SIZE` that together are more than a reader unpacks.
MANY = UNPACKED_BYTES // SIZE + 150


def produce(connections: Connections, *values: bytes) -> None:
    """One batch, packed with zstd."""
    settings = {
        "compression.type": "zstd", "message.max.bytes": 2 * UNPACKED_BYTES, "batch.size": 2 * UNPACKED_BYTES,
        "batch.num.messages": len(values), "linger.ms": 60_000, "log_level": 2,
    }  # fmt: skip
    producer = Producer({"bootstrap.servers": connections.kafka, **settings})
    for value in values:
        producer.produce(CLICKS.name, value, partition=0)
    assert producer.flush(120) == 0


@pytest.mark.services
def test_a_batch_that_is_not_unpacked_is_one_record_too_large_at_its_last_offset(fresh_topics: Connections) -> None:
    """Good, 1,150 values of 100 kB, good, one value of 115 MB, good: five records, wherever the reading begins and ends. The end of
    the log is told too, when such a batch is the last."""
    bomb = [b"\x00" * SIZE] * MANY
    produce(fresh_topics, b"first")
    produce(fresh_topics, *bomb)
    produce(fresh_topics, b"between")
    produce(fresh_topics, b"\x00" * SIZE * MANY)
    reader, end = LogReader(fresh_topics, 60), MANY + 3
    assert reader.tails([(CLICKS.name, 0)])[CLICKS.name, 0].end == end
    produce(fresh_topics, b"last")

    def read(start: int, end: int) -> list[tuple[int, bytes]]:
        batches = reader.read(CLICKS.name, 0, start, end)
        return [
            (r.offset, r.value if len(r.value) <= MAX_RECORD_BYTES else b"too large") for batch in batches for r in batch
        ]

    told = [(0, b"first"), (MANY, b"too large"), (MANY + 1, b"between"), (MANY + 2, b"too large"), (end, b"last")]
    assert read(0, end + 1) == told
    assert read(0, end) == told[:4]
    assert read(MANY // 2, MANY + 2) == told[1:3]
    assert read(1, MANY + 1) == told[1:2]
