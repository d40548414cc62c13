"""`forget` leaves nothing behind, whatever fails on its way, and whoever writes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any

import pytest

from schemas.codec import encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import InvalidRequest, Unavailable
from schemas.topics import COMMITS, STATES
from streams.accounting import forget, standing
from streams.producing import EventProducer
from streams.runtime.core import Output
from streams.runtime.log import LogReader
from streams.runtime.writer import TransactionWriter
from tests.streams.conftest import committed

pytestmark = pytest.mark.services


def write(connections: Connections, *partitions: int, states: bool = True, commits: bool = True) -> None:
    """What the agent "old" has in the log."""
    with EventProducer(connections) as producer:
        for partition in partitions:
            if commits:
                commit = Commit("old", partition, 3, {}, 0, 7, {}, 8)
                producer.send(COMMITS.name, encode(commit), b"old:%d" % partition, partition)
            if states:
                producer.send(STATES.name, b"part", b"old:%d:0" % partition, partition)


def left(connections: Connections) -> set[bytes]:
    """Keys of states that have a value."""
    kept = {key: value for partition in committed(connections, STATES.name) for key, value in partition if key}
    return {key for key, value in kept.items() if value}


def test_states_that_cannot_be_read_leave_the_commits(fresh_topics: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nobody would know any more that there are states to look for."""
    write(fresh_topics, 0, 1)
    read = LogReader.read

    def fails(self: LogReader, topic: str, *place: int) -> Iterator[Any]:
        if topic == STATES.name:
            raise Unavailable("Kafka", "no answer", "wait")
        return read(self, topic, *place)

    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="no answer"):
        patch.setattr(LogReader, "read", fails)
        forget(fresh_topics, "old")
    assert len(standing(fresh_topics)) == 2
    assert forget(fresh_topics, "old") == 2
    assert (standing(fresh_topics), left(fresh_topics)) == ([], set())


def test_states_whose_commits_are_gone_are_forgotten_too(fresh_topics: Connections) -> None:
    """As after a broker that went between the two; then there is nothing more, which is told."""
    write(fresh_topics, 1, commits=False)
    assert forget(fresh_topics, "old") == 1
    assert left(fresh_topics) == set()
    with pytest.raises(InvalidRequest, match="there is none"):
        forget(fresh_topics, "old")


def test_what_lies_behind_the_open_transaction_of_another_is_forgotten(
    fresh_topics: Connections, unique: Callable[[str], str]
) -> None:
    """A commit and a state of ours, written while a transaction of somebody else was open in both topics."""
    writer = TransactionWriter(fresh_topics, unique("writer"), 60)
    writer.open(60)
    other = Output(STATES.name, b"young:0:0", b"part")
    writer.prepare([other], [], lambda _: Output(COMMITS.name, b"young:0", b"{}"), 0)
    write(fresh_topics, 0)
    ends = Timer(2.0, writer.abandon)
    ends.start()
    assert forget(fresh_topics, "old") == 1
    ends.join()
    assert (standing(fresh_topics), left(fresh_topics)) == ([], set())
