"""Compares two topics of one kind by what they say last of each thing they speak of, not by offsets.

Partition by partition. Memory is a digest of the key, one of each field and an offset for every key of a partition, about 250
bytes a key and topic; what is shown as an example is read again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any

import msgspec

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Corrupt, InvalidEvent, InvalidRequest
from schemas.events import Tick
from schemas.topics import Topic
from streams.replaying.changes import changes
from streams.replaying.clients import new_reader
from streams.replaying.fields import KINDS, REVISION, Kind
from streams.replaying.inputs import partitions_of
from streams.replaying.lines import Progress, ignore
from streams.replaying.marks import rebuilt
from streams.replaying.span import Span, event_time
from streams.runtime.core import Record
from streams.runtime.log import LogReader

#: Bytes of a field's digest, and of an offset, in an entry.
FIELD, OFFSET = 8, 8


@dataclass(frozen=True)
class Example:
    """One key: the names of the fields that differ, the values in them, and the records, as far as they are there."""

    key: str
    fields: list[str]
    changes: dict[str, tuple[Any, Any]]
    a: Any
    b: Any


@dataclass
class Difference:
    """Keys by what became of them. ``same`` includes those that differ in the number of their revision alone, which
    ``fields`` counts too. ``examples``: the first of each sort."""

    a: str
    b: str
    of: str
    span: Span
    same: int = 0
    different: int = 0
    only_a: int = 0
    only_b: int = 0
    fields: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=lambda: {"different": [], "only_a": [], "only_b": []})

    @property
    def equal(self) -> bool:
        """Whether both say the same."""
        return not (self.different or self.only_a or self.only_b)


def diff_topics(
    connections: Connections,
    a: str,
    b: str,
    span: Span = Span(),  # noqa: B008 - immutable
    limit: int = 10,
    on_progress: Progress = ignore,
) -> Difference:
    """Compare over the event times that both topics and ``span`` cover, with at most ``limit`` examples of each sort.

    ``on_progress(done, total)`` is told records.

    Raises:
        InvalidRequest: a name that is neither of the registry nor of a rebuild, or topics of different kinds.
        Incompatible: a rebuild is not finished.
        Unavailable: the broker does not answer.
    """
    reader = new_reader(connections)
    first, second = (rebuilt(reader, connections, name) for name in (a, b))
    if first.of is not second.of or first.of.name not in KINDS:
        bound = f"two of one kind, of {', '.join(KINDS)}"
        raise InvalidRequest("topics", f"{a} of {first.of.name}, {b} of {second.of.name}", bound, "name others")
    common = span.common(first.span).common(second.span)
    said = Difference(a, b, first.of.name, common)
    fields, places = Counter[str](), range(partitions_of(first.of, connections.partitions))
    bounds = {(name, p): reader.bounds(name, p) for name in {a, b} for p in places}
    total, done = sum(bounds[name, p][1] - bounds[name, p][0] for name in (a, b) for p in places), 0
    for partition in places:
        entries: dict[str, dict[bytes, bytes]] = {}
        for name in (a, b):
            low, high = bounds[name, partition]
            scanned = _Scan(first.of, common)
            for batch in reader.read(name, partition, low, high):
                scanned.add(name, partition, batch)
                done += len(batch)
                on_progress(done, total)
            entries[name] = scanned.entries
        examples = _Examples(reader, first.of, partition)
        _compare(said, fields, KINDS[first.of.name], entries[a], entries[b], limit, examples)
    said.fields = dict(fields)
    return said


class _Scan:
    """Key's digest -> the fields' digests and the offset of the last record that speaks of it."""

    def __init__(self, of: Topic, span: Span) -> None:
        self._of, self._kind, self._span = of, KINDS[of.name], span
        self._parts: Counter[bytes] = Counter()
        self.entries: dict[bytes, bytes] = {}

    def add(self, name: str, partition: int, batch: list[Record]) -> None:
        kind, entries = self._kind, self.entries
        for record in batch:
            if not self._span.whole and not self._span.start <= event_time(record.value) < self._span.end:
                continue
            said = read(self._of, name, partition, record)
            if isinstance(said, Tick):
                continue
            key = digest(kind.key(said), 16)
            if kind.parts:
                self._parts[key] += 1
                key = digest((key, self._parts[key]), 16)
            if kind.absent(said):
                entries.pop(key, None)
                continue
            values = b"".join(digest(value, FIELD) for value in kind.values(said))
            entries[key] = values + record.offset.to_bytes(OFFSET, "big")


def _compare(
    said: Difference, fields: Counter[str], kind: Kind, a: dict[bytes, bytes], b: dict[bytes, bytes], limit: int,
    examples: _Examples,
) -> None:  # fmt: skip
    wanted: list[tuple[str, list[str], bytes | None, bytes | None]] = []
    room = {sort: limit - len(shown) for sort, shown in said.examples.items()}
    for key in chain(a, (key for key in b if key not in a)):
        one, other = a.get(key), b.get(key)
        differing = [] if one is None or other is None else _differing(kind, one, other)
        fields.update(differing)
        if one is None or other is None:
            sort = "only_a" if other is None else "only_b"
        elif not set(differing) - {REVISION}:
            said.same += 1
            continue
        else:
            sort = "different"
        setattr(said, sort, getattr(said, sort) + 1)
        if room[sort] > 0:
            room[sort] -= 1
            wanted.append((sort, differing, one, other))
    shown_a = examples.of(said.a, [one for _, _, one, _ in wanted if one])
    shown_b = examples.of(said.b, [other for _, _, _, other in wanted if other])
    for sort, differing, one, other in wanted:
        a_said, b_said = shown_a[_offset(one)] if one else None, shown_b[_offset(other)] if other else None
        moved = changes(a_said, b_said) if a_said and b_said else {}
        said.examples[sort].append(Example(kind.key(a_said or b_said), differing, moved, a_said, b_said))


def _differing(kind: Kind, one: bytes, other: bytes) -> list[str]:
    return [
        name for n, name in enumerate(kind.fields) if one[n * FIELD : (n + 1) * FIELD] != other[n * FIELD : (n + 1) * FIELD]
    ]


class _Examples:
    """Reads the records of a few entries again."""

    def __init__(self, reader: LogReader, of: Topic, partition: int) -> None:
        self._reader, self._of, self._partition = reader, of, partition

    def of(self, topic: str, entries: list[bytes]) -> dict[int, Any]:
        """Offset -> the record there."""
        offsets = {_offset(entry) for entry in entries}
        if not offsets:
            return {}
        stretch = self._reader.read(topic, self._partition, min(offsets), max(offsets) + 1)
        wanted = (record for batch in stretch for record in batch if record.offset in offsets)
        return {record.offset: read(self._of, topic, self._partition, record) for record in wanted}


def read(of: Topic, name: str, partition: int, record: Record) -> Any:
    """A record of a derived topic.

    Raises:
        Corrupt: it is none.
    """
    try:
        return decode(of.kind, record.value)
    except InvalidEvent as error:
        place = f"{name}/{partition} at offset {record.offset}"
        raise Corrupt(
            place, str(error), f"only agents write to such a topic: rebuild it from its inputs, see {of.name}"
        ) from error


def digest(value: Any, size: int) -> bytes:
    """The same for equal values, in every process."""
    return blake2b(_encode(value), digest_size=size).digest()


def _offset(entry: bytes) -> int:
    return int.from_bytes(entry[-OFFSET:], "big")


_encode = msgspec.msgpack.Encoder().encode
