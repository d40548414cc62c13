"""Read a topic's present content once, from a start to the end it has now, decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from schemas import tails
from schemas.codec import decode
from schemas.connections import Connections
from schemas.topics import Topic

#: Longest wait for the next record (s): a broker that is started again meanwhile is waited for, one that is gone is told.
PATIENCE_S: Final = 30.0


class Entry(NamedTuple):
    """A decoded record and where it lies. ``timestamp`` is the broker's time for it (ms)."""

    partition: int
    offset: int
    timestamp: int
    record: Any


def scan(connections: Connections, topic: Topic, start: dict[int, int] | None = None) -> Iterator[Entry]:
    """Every committed record from ``start`` (partition -> offset; default: the beginning) to the end offsets of now.

    Records without a value (a compacted topic's deletions) are passed over.

    Raises:
        InvalidEvent: a record cannot be decoded; topics that outsiders write to are read with `scan_raw`.
        Refused, Unavailable: as `scan_raw`.
    """
    for partition, offset, timestamp, value in scan_raw(connections, topic, start):
        yield Entry(partition, offset, timestamp, decode(topic.kind, value, limit=len(value)))


def scan_raw(
    connections: Connections, topic: Topic, start: dict[int, int] | None = None
) -> Iterator[tuple[int, int, int, bytes]]:
    """(partition, offset, timestamp, value) of every committed record from ``start`` to the end offsets of now.

    Raises:
        Refused, Unavailable: as `tails.read`; a topic that is missing is none that is empty.
    """
    for message in tails.read(connections, topic, start or {}, others=True, patience_s=PATIENCE_S):
        if (value := message.value()) is not None:
            yield message.partition(), message.offset(), message.timestamp()[1], value
