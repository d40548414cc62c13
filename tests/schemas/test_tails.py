"""Reading to the ends as they were ends, whatever goes on behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from schemas import tails
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import CLICKS


class Record:
    """A message of partition 0."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> None:
        return None


class OneLeader:
    """A consumer of two partitions: one is written to without end, the other's leader is away."""

    def __init__(self) -> None:
        self.paused: list[int] = []
        self._next, self._began = 0, time.monotonic()

    def assign(self, places: list[Any]) -> None:
        assert {place.partition for place in places} == {0, 1}

    def pause(self, places: list[Any]) -> None:
        self.paused += [place.partition for place in places]

    def consume(self, _: int, seconds: float) -> list[Record]:
        """Goes on with the partition that was let go, as what was already fetched does."""
        assert time.monotonic() - self._began < 5, "it reads for ever"
        time.sleep(seconds)
        self._next += 1
        return [Record(self._next - 1)]


def test_a_partition_that_others_write_to_does_not_hide_one_whose_leader_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has two records to its end, which come, and it is let go; that more follow is no progress of the second."""
    consumer = OneLeader()

    @contextmanager
    def made(_: Connections) -> Iterator[OneLeader]:
        yield consumer

    monkeypatch.setattr(tails, "_consumer", made)
    monkeypatch.setattr(tails, "_ends", lambda *_: {0: (0, 2), 1: (0, 2)})
    read: list[int] = []
    with pytest.raises(Unavailable, match=r"no records of partitions \[1\] in 0\.5 s"):
        for message in tails.read(Connections(kafka="127.0.0.1:9"), CLICKS, {}, others=True, patience_s=0.5):
            read.append(message.offset())
    assert (read, consumer.paused) == ([0, 1], [0])
