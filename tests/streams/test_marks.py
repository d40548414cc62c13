"""The marks of transactions at the end of an input: they are passed like records, so that none is missed once they are deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.connections import Connections
from schemas.errors import Corrupt
from schemas.topics import VIEWS
from streams.accounting import standing
from streams.runtime.log import LogReader
from tests.streams.conftest import Worker
from tests.streams.test_gap import delete

pytestmark = pytest.mark.services

#: Records of a poll of `tests.streams.chain_worker`.
POLL = 50


def test_marks_that_end_an_input_may_be_deleted_while_its_reader_is_away(
    fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """As many records as a poll brings, so that their mark comes by itself; then an aborted transaction. The reader commits the end,
    whatever it is made of, and its state too. So with everything deleted the next start misses nothing."""
    group = unique("chain")

    def start() -> Worker:
        return Worker(fresh_topics, group, tmp_path / "worker.log", {"INSTANCE": "one"}, "chain_worker.py")

    transact(fresh_topics, unique("writer"), POLL)
    one = start()
    try:
        until_committed(fresh_topics, POLL + 1)
        transact(fresh_topics, unique("writer"), 1, abort=True)
        until_committed(fresh_topics, POLL + 3)
        assert one.stop() == 0, one.log.read_text()[-3_000:]
        delete(fresh_topics, VIEWS.name, POLL + 3)
        one = start()
        transact(fresh_topics, unique("writer"), 1)
        until_committed(fresh_topics, POLL + 5)
        assert one.stop() == 0, one.log.read_text()[-3_000:]
    finally:
        one.kill()


def test_of_what_is_gone_the_error_says_that_it_may_have_been_marks(
    fresh_topics: Connections, unique: Callable[[str], str]
) -> None:
    """A transaction of one record, and its mark: a reader behind the record stands on the mark, one before it misses the record. With
    both gone they cannot be told apart; the end is where nothing is missed."""
    transact(fresh_topics, unique("writer"), 1)
    delete(fresh_topics, VIEWS.name, 2)
    reader = LogReader(fresh_topics, 30)
    for offset in (0, 1):
        told = f"offset {offset} needed, 2 is the first kept, 2 the end; {2 - offset} gone, records or marks"
        with pytest.raises(Corrupt, match=told):
            reader.check(VIEWS.name, 0, offset)
    reader.check(VIEWS.name, 0, 2)


def transact(connections: Connections, name: str, count: int, *, abort: bool = False) -> None:
    """A transaction of so many views, in partition 0."""
    producer = Producer({"bootstrap.servers": connections.kafka, "transactional.id": name, "log_level": 2})
    producer.init_transactions(60)
    producer.begin_transaction()
    for n in range(count):
        producer.produce(VIEWS.name, b"%05d" % n, b"u", partition=0)
    assert producer.flush(60) == 0
    if abort:
        producer.abort_transaction(60)
    else:
        producer.commit_transaction(60)


def until_committed(connections: Connections, end: int) -> None:
    """Wait until both readers of the views have committed that offset."""
    deadline = time.monotonic() + 60
    while True:
        done = [commit.next_offsets.get(VIEWS.name) for commit in standing(connections) if commit.partition == 0]
        if done.count(end) == 2:
            return
        assert time.monotonic() < deadline, f"{done}, not {end}"
        time.sleep(0.1)
