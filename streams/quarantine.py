"""What to do with quarantined records: list them, count them, look at one, send some again.

Everything begins with a scan of the whole topic, about 300 bytes of memory a record; records themselves are read when they
are needed. What was sent again is marked in the topic itself, by a `Replayed` in the partition of its record.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.quarantine import RAW_LIMIT, Quarantined, Reason, Replayed
from schemas.topics import QUARANTINE
from streams.producing import EventProducer
from streams.replaying.lines import Progress, ignore
from streams.replaying.span import Span
from streams.runtime.log import LogReader

#: All times there are.
ALWAYS = Span()
#: Records sent before they are marked: at most so many go out twice after a replay that was killed.
BATCH = 500


@dataclass(frozen=True)
class Wanted:
    """Which records; empty: any. ``span`` is of the broker's time for the record that was refused."""

    reason: str = ""
    topic: str = ""
    agent: str = ""
    span: Span = ALWAYS

    def __post_init__(self) -> None:
        """Raises InvalidRequest when there is no such reason."""
        if self.reason and self.reason not in tuple(Reason):
            raise InvalidRequest("reason", self.reason, f"one of {', '.join(Reason)}", "correct it, or leave it out")

    def takes(self, line: Line) -> bool:
        """Whether the record is one of them."""
        return (
            self.reason in ("", line.reason)
            and self.topic in ("", line.topic)
            and self.agent in ("", line.agent)
            and self.span.start <= line.ts < self.span.end
        )


class Line(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="quarantined"):
    """A quarantined record without its bytes, at ``place`` of the quarantine topic: (partition, offset)."""

    agent: str
    topic: str
    reason: str
    size: int
    ts: int
    place: tuple[int, int] = (0, 0)
    replayed_ms: int = 0  #: wall time at which it was last sent again; 0: never
    v: int = 1

    @property
    def id(self) -> str:
        """By which commands name it."""
        return f"{self.place[0]}-{self.place[1]}"

    @property
    def whole(self) -> bool:
        """Whether quarantine has all its bytes."""
        return self.size <= RAW_LIMIT


@dataclass(frozen=True)
class Entry:
    """A quarantined record; ``id`` is ``partition-offset`` of the quarantine topic, ``replayed_ms`` as `Line`'s."""

    id: str
    record: Quarantined
    replayed_ms: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset in the quarantine topic."""
        partition, offset = self.id.split("-")
        return int(partition), int(offset)


def scan(connections: Connections, wanted: Wanted = Wanted(), on_progress: Progress = ignore) -> list[Line]:
    """The wanted records, newest first. ``on_progress(done, total)`` is told offsets.

    Raises:
        Unavailable: the broker does not answer.
    """
    reader, lines, done = LogReader(connections, 30), list[Line](), 0
    bounds = [reader.bounds(QUARANTINE.name, partition) for partition in range(connections.partitions)]
    total = sum(high - low for low, high in bounds)
    for partition, (low, high) in enumerate(bounds):
        mine, replayed = list[Line](), dict[int, int]()
        for batch in reader.read(QUARANTINE.name, partition, low, high):
            for record in batch:
                said: Line | Replayed = decode(Line | Replayed, record.value)
                if isinstance(said, Replayed):
                    replayed[said.offset] = said.at_ms
                elif wanted.takes(said):
                    mine.append(replace(said, place=(partition, record.offset)))
            on_progress(done + batch[-1].offset - low, total)
        lines += [replace(one, replayed_ms=replayed.get(one.place[1], 0)) for one in mine]
        done += high - low
    return sorted(lines, key=attrgetter("ts", "place"), reverse=True)


def listing(connections: Connections, limit: int = 50, wanted: Wanted = Wanted()) -> list[Entry]:
    """The newest ``limit`` of the wanted records, newest first.

    Raises:
        Unavailable: the broker does not answer.
    """
    lines = scan(connections, wanted)[:limit]
    records = {line.place: record for line, record in _read(connections, lines)}
    return [Entry(line.id, records[line.place], line.replayed_ms) for line in lines]


def by_id(lines: Iterable[Line], name: str) -> Line:
    """The record with that id.

    Raises:
        InvalidRequest: there is none.
    """
    for line in lines:
        if line.id == name:
            return line
    raise InvalidRequest("quarantined record", name, "an id that `headrace quarantine list` shows", "look it up there")


def show(connections: Connections, name: str) -> str:
    """The record as text, its bytes with escapes where they are not UTF-8.

    Raises:
        InvalidRequest: there is none with that id.
    """
    ((line, record),) = _read(connections, [by_id(scan(connections), name)])
    cut = "" if line.whole else f" (the first {len(record.raw)} of them)"
    again = f"sent again at {utc(line.replayed_ms)}\n" if line.replayed_ms else ""
    return (
        f"{name}: {record.reason}\n{record.detail}\n"
        f"refused by {record.agent}, from {record.topic}/{record.partition}@{record.offset}, {record.size} bytes{cut}\n{again}"
        f"{record.raw.decode('utf-8', 'backslashreplace')}"
    )


@dataclass(frozen=True)
class Plan:
    """What a replay would do: send ``send``; leave out ``before``, which were sent once, and ``cut``, of which quarantine has
    the beginning alone."""

    send: list[Line]
    before: list[Line]
    cut: list[Line]


def plan(lines: Iterable[Line], again: bool = False) -> Plan:
    """Sort out what may be sent; ``again``: also what was sent before."""
    made = Plan([], [], [])
    for line in lines:
        (made.cut if not line.whole else made.before if line.replayed_ms and not again else made.send).append(line)
    return made


def replay(connections: Connections, lines: Sequence[Line], on_progress: Progress = ignore) -> int:
    """Send the bytes of these whole records to the partitions they came from once more, and mark them; how many there were.

    They are marked when the broker has them, `BATCH` at a time.

    Raises:
        Unavailable: the broker does not take them.
    """
    sent = list[Line]()
    done = 0
    with EventProducer(connections) as producer:

        def mark() -> None:
            mark_sent(producer, [(line.agent, line.place) for line in sent])
            sent.clear()
            on_progress(done, len(lines))

        for line, record in _read(connections, lines):
            producer.send(record.topic, record.raw, None, record.partition)
            sent.append(line)
            done += 1
            if len(sent) == BATCH:
                mark()
        mark()
    return done


def _read(connections: Connections, lines: Iterable[Line]) -> Iterator[tuple[Line, Quarantined]]:
    """The lines with their records, partition by partition, the oldest first."""
    by_partition: dict[int, dict[int, Line]] = {}
    for line in lines:
        by_partition.setdefault(line.place[0], {})[line.place[1]] = line
    reader = LogReader(connections, 30)
    for partition, mine in sorted(by_partition.items()):
        for batch in reader.read(QUARANTINE.name, partition, min(mine), max(mine) + 1):
            for record in batch:
                if record.offset in mine:
                    yield mine[record.offset], decode(Quarantined, record.value)


def counts(lines: Iterable[Line]) -> list[tuple[Line, int, int]]:
    """Of each agent, reason and topic, the most first: its newest record, how many there are, and how many were sent again."""
    newest: dict[tuple[str, str, str], Line] = {}
    number, again = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for line in lines:
        key = line.agent, line.reason, line.topic
        if key not in newest or line.ts > newest[key].ts:
            newest[key] = line
        number[key] += 1
        again[key] += bool(line.replayed_ms)
    return [(newest[key], n, again[key]) for key, n in number.most_common()]


def utc(ms: int) -> str:
    """A time (ms) for people."""
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def mark_sent(producer: EventProducer, records: Iterable[tuple[str, tuple[int, int]]]) -> None:
    """When the broker has what was sent: say in the quarantine topic that these records, by agent and place, were sent again.

    Raises:
        Unavailable: the broker does not take them.
    """
    producer.flush()
    for agent, (partition, offset) in records:
        producer.send(QUARANTINE.name, encode(Replayed(offset, int(time.time() * 1_000))), agent.encode(), partition)
    producer.flush()
