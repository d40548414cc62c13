"""The kept past of an agent's inputs, read side by side as it came in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.topics import Topic
from streams.runtime.core import Agent, Record
from streams.runtime.log import LogReader


class Stretch(NamedTuple):
    """Offsets ``[start, end)`` of a partition of ``topic``, for the input ``name``."""

    name: str
    topic: str
    start: int
    end: int


def kept(reader: LogReader, agent: Agent, partition: int, renamed: Mapping[str, str]) -> list[Stretch]:
    """All that is kept of the agent's inputs in that partition; ``renamed``: input -> the topic that stands in for it.

    Raises:
        Unavailable: the broker does not answer.
    """
    names = [(topic.name, renamed.get(topic.name, topic.name)) for topic in agent.inputs]
    return [Stretch(name, topic, *reader.bounds(topic, partition)) for name, topic in names]


def side_by_side(reader: LogReader, stretches: list[Stretch], partition: int) -> Iterator[tuple[str, list[Record]]]:
    """(input, records) in batches, always of the input that is furthest behind by the broker's time.

    A core holds back what its watermark has not passed, so one input after the other would bring all of the first into
    memory.

    Raises:
        Corrupt: an offset is no longer kept.
        Unavailable: the broker does not answer.
    """
    heap: list[tuple[int, int, Iterator[list[Record]]]] = []
    for n, stretch in enumerate(stretches):
        heappush(heap, (-1, n, reader.read(stretch.topic, partition, stretch.start, stretch.end)))
    while heap:
        _, n, batches = heappop(heap)
        batch = next(batches, None)
        if batch is not None:
            yield stretches[n].name, batch
            heappush(heap, (batch[-1].timestamp, n, batches))


def partitions_of(topic: Topic, partitions: int) -> int:
    """How many partitions a topic of the registry has, where events have ``partitions``."""
    return topic.partitions or partitions
