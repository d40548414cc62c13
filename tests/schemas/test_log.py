"""Reading a topic's present content once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.log import scan_raw
from schemas.topics import CLICKS

pytestmark = pytest.mark.services


def test_all_that_is_committed_and_not_deleted_is_read_once(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """From an offset where one is given and from the beginning elsewhere, also where that offset is none. What was taken back, what
    is deleted and what is still open are left out; so an empty topic gives nothing."""
    assert list(scan_raw(fresh_topics, CLICKS)) == []

    def produce(producer: Producer, *sent: tuple[bytes | None, int]) -> None:
        for value, partition in sent:
            producer.produce(CLICKS.name, value, partition=partition)
        assert producer.flush(30) == 0

    def transaction() -> Producer:
        producer = Producer({"bootstrap.servers": fresh_topics.kafka, "transactional.id": unique("log")})
        producer.init_transactions(30)
        producer.begin_transaction()
        return producer

    produce(Producer({"bootstrap.servers": fresh_topics.kafka}), (b"a", 0), (b"b", 0), (None, 0), (b"c", 1), (b"d", 0))
    produce(taken_back := transaction(), (b"never", 0))
    taken_back.abort_transaction(30)
    produce(still_open := transaction(), (b"not yet", 1))

    def values(start: dict[int, int] | None = None) -> set[tuple[int, int, bytes]]:
        found = [(partition, offset, value) for partition, offset, _, value in scan_raw(fresh_topics, CLICKS, start)]
        assert len(found) == len(set(found))
        return set(found)

    everything = {(0, 0, b"a"), (0, 1, b"b"), (0, 3, b"d"), (1, 0, b"c")}
    assert values() == values({5: 3}) == everything
    assert values({0: 1}) == everything - {(0, 0, b"a")}
    still_open.abort_transaction(30)


def test_a_topic_that_is_missing_is_not_taken_for_an_empty_one(fresh_topics: Connections) -> None:
    missing = dataclasses.replace(CLICKS, name="no.such.topic")
    with pytest.raises(Unavailable, match=r"topic no\.such\.topic .*headrace topics --create"):
        list(scan_raw(fresh_topics, missing))
