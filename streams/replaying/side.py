"""Two sides of a partition of `search.views`: what the live topic says last of each view, and what was joined anew.

Memory is about 300 bytes a view and side; views that differ are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from schemas.codec import decode
from schemas.commits import Commit
from schemas.errors import Incompatible
from schemas.events import Tick
from schemas.topics import VIEWS
from schemas.views import View
from streams.attribution.core import AttributionCore
from streams.replaying.diff import digest, read
from streams.replaying.fields import KINDS, REVISION, taken_back
from streams.replaying.inputs import Stretch
from streams.replaying.rebuild import run
from streams.runtime.core import Output, Record
from streams.runtime.log import LogReader

_KIND = KINDS[VIEWS.name]
_REVISION = _KIND.fields.index(REVISION)


class Said(NamedTuple):
    """What is said last of a view: a digest without the revision's number, that number, the view's time, and its offset."""

    digest: bytes
    revision: int
    ts: int
    offset: int
    gone: bool


def said_of(view: View, offset: int) -> Said:
    """What a record says."""
    values = _KIND.values(view)
    return Said(
        digest((*values[:_REVISION], *values[_REVISION + 1 :]), 16), view.revision, view.ts, offset, taken_back(view)
    )


class Live:
    """The live topic's side."""

    def __init__(self, reader: LogReader, partition: int) -> None:
        self._reader, self._partition = reader, partition
        self.low, self._next = reader.bounds(VIEWS.name, partition)[0], -1
        self.views: dict[str, Said] = {}
        self.first, self.newest = -1, 0  #: emission times (ms) of the first record kept, and the latest of all

    def follow(self) -> None:
        """Take what has been committed since the last call."""
        start = self.low if self._next < 0 else self._next
        end = self._reader.bounds(VIEWS.name, self._partition)[1]
        for record in chain.from_iterable(self._reader.read(VIEWS.name, self._partition, start, end)):
            event = read(VIEWS, VIEWS.name, self._partition, record)
            at = event.ts if isinstance(event, Tick) else event.emitted_at
            self.first = at if self.first < 0 else self.first
            self.newest = max(self.newest, at)
            if isinstance(event, View):
                self.views[event.request_id] = said_of(event, record.offset)
        self._next = end

    def again(self, requests: Iterable[str]) -> dict[str, View]:
        """The last revisions of these views."""
        return _again(self._reader, VIEWS.name, self._partition, {self.views[r].offset for r in requests})


class Anew:
    """The side that is joined anew from the raw events, held against the topic that was looked at, ``name``."""

    def __init__(self, reader: LogReader, core: AttributionCore, name: str, partition: int, starts: dict[str, int]) -> None:
        self._reader, self._name, self._partition = reader, name, partition
        self._next = dict(starts)
        self._seen, self._end = reader.bounds(name, partition)
        self._beyond: dict[str, View] = {}  # views told after the end of ``name``
        self.core, self.views, self.newest = core, dict[str, Said](), 0

    def follow(self, commit: Commit) -> None:
        """Join on to the offsets of ``commit``.

        Raises:
            Incompatible: what comes out is not what ``name`` says.
        """
        looked = chain.from_iterable(self._reader.read(self._name, self._partition, self._seen, self._end))
        stretches = [Stretch(t, t, start, commit.next_offsets[t]) for t, start in self._next.items()]
        for _, outputs, _ in run(self._reader, self.core, stretches, self._partition):
            self._take(outputs, looked)
        self._next = dict(commit.next_offsets)

    def _take(self, outputs: list[Output], looked: Iterator[Record]) -> None:
        for output in outputs:
            if output.topic != VIEWS.name:
                continue
            record = next(looked, None)
            if record is not None:
                self._seen = record.offset + 1
                if (record.key or b"", record.value) != (output.key, output.value):
                    raise Incompatible(
                        f"rebuilt topic {self._name}, partition {self._partition}, offset {record.offset}",
                        output.value, record.value,
                        "the code, the settings or what the inputs keep has changed since: rebuild it, and compare again",
                    )  # fmt: skip
            event: View | Tick = decode(VIEWS.kind, output.value)
            self.newest = max(self.newest, event.ts if isinstance(event, Tick) else event.emitted_at)
            if isinstance(event, View):
                self.views[event.request_id] = said_of(event, -1 if record is None else record.offset)
                if record is None:
                    self._beyond[event.request_id] = event

    def again(self, requests: Iterable[str]) -> dict[str, View]:
        """The last revisions of these views."""
        wanted = set(requests)
        found = {r: view for r, view in self._beyond.items() if r in wanted}
        offsets = {self.views[r].offset for r in wanted - found.keys()}
        return found | _again(self._reader, self._name, self._partition, offsets)


def _again(reader: LogReader, topic: str, partition: int, offsets: set[int]) -> dict[str, View]:
    if not offsets:
        return {}
    stretch = chain.from_iterable(reader.read(topic, partition, min(offsets), max(offsets) + 1))
    views = (read(VIEWS, topic, partition, record) for record in stretch if record.offset in offsets)
    return {view.request_id: view for view in views}
