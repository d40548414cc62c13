"""Counts of one partition of views, told to the merger at every stamp of a grid of event time.

A view is counted once for what was examined, and by differences for what was clicked and ordered: a revision moves the
counts, a retraction takes back exactly what it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from reward.counts import Counts, examination
from reward.settings import PosteriorSettings
from reward.text import normalise
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.events import Tick
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.topics import DELTAS, VIEWS
from schemas.views import View
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME = "posteriors"
#: Deltas in one record; more are cut into several (about 100 bytes each).
MOST = 4_000


class _State(msgspec.Struct):
    """``stamp``: the next grid time that is not told yet, -1 before the first record."""

    now: int
    stamp: int
    counts: bytes
    counters: dict[str, int]


class CountsCore:
    """One partition of search.views."""

    def __init__(self, partition: int, settings: PosteriorSettings) -> None:
        self._partition, self._settings = partition, settings
        self._grid, self._bucket_ms = settings.snapshot_every_s * 1_000, settings.bucket_s * 1_000
        self._now, self._stamp = 0, -1
        self._counts, self._some = Counts(), False
        self._outputs: list[Output] = []
        self.counters: dict[str, int] = {}

    @property
    def watermark(self) -> int:
        """Emission time of the newest view or tick."""
        return self._now

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Count views; a record later than a stamp completes it."""
        for record in records:
            try:
                message = decode(VIEWS.kind, record.value)
            except InvalidEvent as error:
                self._count(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, self._partition, record, error.reason, str(error)))
                continue
            self._pass(message.ts if isinstance(message, Tick) else message.emitted_at)
            if isinstance(message, Tick):
                self._count("ticks")
            else:
                self._count("views")
                self._counts.add(self._deltas(message))
                self._some = True

    def advance(self) -> None:
        """Nothing waits for the watermark: stamps are told as they are passed."""

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(_State(self._now, self._stamp, self._counts.dump(), self.counters))

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._now, self._stamp, self.counters = state.now, state.stamp, state.counters
        self._counts = Counts.load(state.counts)
        self._some = bool(self._counts.deltas())

    def _pass(self, now: int) -> None:
        """Tell the stamps below ``now``: the one that has content, then the last (empty ones between say nothing new)."""
        if self._stamp < 0:
            self._stamp = -(-now // self._grid) * self._grid
        if self._stamp < now:
            if self._some:
                self._tell(self._stamp, self._counts.deltas())
                self._counts, self._some = Counts(), False
            last = (now - 1) // self._grid * self._grid
            if last > self._stamp:
                self._tell(last, ())
            self._stamp = last + self._grid
        self._now = max(self._now, now)

    def _tell(self, stamp: int, deltas: tuple[CountDelta, ...]) -> None:
        pieces = [deltas[n : n + MOST] for n in range(0, len(deltas), MOST)] or [()]
        for n, piece in enumerate(pieces):
            message = PosteriorDelta(self._partition, stamp, piece, last=n == len(pieces) - 1)
            self._outputs.append(Output(DELTAS.name, str(self._partition).encode(), encode(message), 0))

    def _deltas(self, view: View) -> Iterator[CountDelta]:
        query, bucket = normalise(view.query), view.ts // self._bucket_ms
        for item in view.items:
            examined, squares = examination(item.position, self._settings.position_power) if view.revision == 1 else (0, 0)
            if examined or item.d_clicks or item.d_orders:
                yield CountDelta(query, item.item, bucket, examined, item.d_clicks, item.d_orders, squares)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
