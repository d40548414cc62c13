"""A sink that keeps what it is given in memory, for the shop's delivery and driver; where the ablation's tests work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import torch


class Sent(NamedTuple):
    topic: str
    partition: int
    key: bytes
    value: bytes


class MemorySink:
    """Keeps records in order; counts a record as kept at the next flush."""

    def __init__(self, partitions: int = 2) -> None:
        self.acked: Counter[str] = Counter()
        self.records: list[Sent] = []
        self._partitions, self._flushed = partitions, 0

    def partitions(self, topic: str) -> int:
        return self._partitions

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        self.records.append(Sent(topic, partition, key, value))

    def flush(self) -> None:
        self.acked.update(record.topic for record in self.records[self._flushed :])
        self._flushed = len(self.records)

    def bodies(self, *types: str) -> list[dict]:
        """The readable records of these types, as plain dictionaries."""
        bodies = []
        for record in self.records:
            try:
                body = msgspec.json.decode(record.value)
            except msgspec.DecodeError:
                continue
            if body["type"] in types:
                bodies.append(body)
        return bodies

    def late(self, lateness_ms: int) -> list[dict]:
        """Oracle of the attribution's rule: below the own topic partition's running maximum less the lateness."""
        maximum: dict[tuple[str, int], int] = {}
        late = []
        for record in self.records:
            body = msgspec.json.decode(record.value)
            place = record.topic, record.partition
            if body["ts"] < maximum.get(place, 0) - lateness_ms:
                late.append(body)
            maximum[place] = max(maximum.get(place, 0), body["ts"])
        return late


@pytest.fixture
def sink() -> MemorySink:
    """Two partitions of every topic."""
    return MemorySink()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes with one thread, so that what it computes repeats to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ablation_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small world of the ablation's tests is prepared, once a process."""
    return tmp_path_factory.mktemp("ablation")
