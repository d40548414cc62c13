"""What to do with quarantined records: list them, look at one, send one again."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.quarantine import Quarantined
from schemas.topics import QUARANTINE
from streams.producing import EventProducer
from streams.runtime.log import LogReader

#: A transaction leaves a control record too, so that at most every second offset of the topic is one.
_STRETCH = 2


@dataclass(frozen=True)
class Entry:
    """A quarantined record; ``id`` is ``partition-offset`` of the quarantine topic."""

    id: str
    record: Quarantined


def listing(connections: Connections, limit: int = 50, reason: str = "") -> list[Entry]:
    """The newest ``limit`` records, newest first; only those of ``reason`` when it is given (then the whole topic is read).

    Raises:
        Unavailable: the broker does not answer.
    """
    reader = LogReader(connections, 30)
    entries: list[Entry] = []
    for partition in range(connections.partitions):
        low, high = reader.bounds(QUARANTINE.name, partition)
        start = low if reason else max(low, high - _STRETCH * limit)
        for batch in reader.read(QUARANTINE.name, partition, start, high):
            found = [Entry(f"{partition}-{record.offset}", decode(Quarantined, record.value)) for record in batch]
            entries += [entry for entry in found if not reason or entry.record.reason == reason]
    entries.sort(key=lambda entry: (entry.record.ts, entry.id), reverse=True)
    return entries[:limit]


def find(connections: Connections, name: str) -> Quarantined:
    """The record with that id.

    Raises:
        InvalidRequest: there is none.
    """
    partition, _, offset = name.partition("-")
    if partition.isdecimal() and offset.isdecimal() and int(partition) < connections.partitions:
        reader = LogReader(connections, 30)
        low, high = reader.bounds(QUARANTINE.name, int(partition))
        if low <= int(offset) < high:
            for batch in reader.read(QUARANTINE.name, int(partition), int(offset), int(offset) + 1):
                record: Quarantined = decode(Quarantined, batch[0].value)
                return record
    raise InvalidRequest("quarantined record", name, "an id that `headrace quarantine list` shows", "look it up there")


def show(connections: Connections, name: str) -> str:
    """The record as text, its bytes with escapes where they are not UTF-8.

    Raises:
        InvalidRequest: there is none with that id.
    """
    record = find(connections, name)
    cut = "" if record.size == len(record.raw) else f" (the first {len(record.raw)} of them)"
    return (
        f"{name}: {record.reason}\n{record.detail}\n"
        f"refused by {record.agent}, from {record.topic}/{record.partition}@{record.offset}, {record.size} bytes{cut}\n"
        f"{record.raw.decode('utf-8', 'backslashreplace')}"
    )


def replay(connections: Connections, name: str) -> None:
    """Send the record's bytes to the partition it came from once more.

    Raises:
        InvalidRequest: there is none with that id, or its bytes were cut.
        Unavailable: the broker does not take it.
    """
    record = find(connections, name)
    if record.size != len(record.raw):
        raise InvalidRequest(
            f"size of {name}",
            record.size,
            f"at most {len(record.raw)} bytes, what quarantine keeps",
            "send it from its source",
        )
    with EventProducer(connections) as producer:
        producer.send(record.topic, record.raw, None, record.partition)
