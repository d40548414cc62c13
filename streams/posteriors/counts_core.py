"""Counts of one partition of views, told as deltas each time event time passes a multiple of ``snapshot_every_s``.

Views emitted in (previous stamp, stamp] belong to ``stamp``. A stamp closes when a later record of the partition says
that event time has gone past it; views come in order of ``emitted_at``, so nothing can follow into a closed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from reward.counts import UNIT
from reward.settings import PosteriorSettings
from reward.text import normalise
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.events import Tick
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.topics import DELTAS, VIEWS
from schemas.views import View
from streams.posteriors.open_counts import OpenCounts
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME: Final = "posteriors"
#: Deltas are cut into records of about this size (bytes), below the broker's and the reader's limit.
PART_BYTES: Final = 400_000


class _State(msgspec.Struct):
    emitted: int = 0  # the last stamp told
    newest: int = 0
    counters: dict[str, int] = {}
    open: tuple[CountDelta, ...] = ()


class CountsCore:
    """One partition of views in, `PosteriorDelta` out."""

    def __init__(self, partition: int, settings: PosteriorSettings) -> None:
        self._partition, self._settings = partition, settings
        self._every = settings.snapshot_every_s * 1_000
        self._outputs: list[Output] = []
        self._become(_State())

    def _become(self, state: _State) -> None:
        self._state, self.counters, self._open = state, state.counters, OpenCounts(state.open)

    @property
    def watermark(self) -> int:
        """Event time (ms) below which no further view is emitted."""
        return self._state.newest

    @property
    def progress(self) -> Mapping[str, int]:
        """Nothing: there is one input."""
        return {}

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Count views; a record that cannot be read goes to quarantine."""
        for record in records:
            try:
                event: View | Tick = decode(VIEWS.kind, record.value)
            except InvalidEvent as error:
                self._add_to(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, self._partition, record, error.reason, str(error)))
                continue
            if isinstance(event, Tick):
                self._add_to("ticks")
                self._pass(event.ts)
            else:
                self._add_to("views")
                self._pass(event.emitted_at)
                self._open.add(view_deltas(event, self._settings))

    def _pass(self, now: int) -> None:
        """Close every stamp before ``now``: one that has content, and the last, which tells that time went on."""
        state = self._state
        state.newest = max(state.newest, now)
        limit = (now - 1) // self._every * self._every
        if limit <= state.emitted:
            return
        deltas = self._open.deltas()
        if deltas:
            self._tell(state.emitted + self._every, deltas)
            self._open = OpenCounts()
        if not deltas or limit > state.emitted + self._every:
            self._tell(limit, ())
        state.emitted = limit

    def _tell(self, stamp: int, deltas: tuple[CountDelta, ...]) -> None:
        parts = list(_parts(deltas))
        for n, part in enumerate(parts, 1):
            told = PosteriorDelta(self._partition, stamp, part, last=n == len(parts))
            self._outputs.append(Output(DELTAS.name, str(self._partition).encode(), encode(told), 0))
        self._add_to("stamps")

    def advance(self) -> None:
        """Nothing is left to fire: stamps close as records pass them."""

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        self._state.open = self._open.deltas()
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        self._become(msgspec.msgpack.decode(data, type=_State))

    def _add_to(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def view_deltas(view: View, settings: PosteriorSettings) -> Iterator[CountDelta]:
    """What a revision of a view changes: that it was shown at revision 1, its clicks and orders by their difference.

    An item counts as clicked or ordered once in a view, however often it was (EQUATIONS 6).
    """
    query, bucket = normalise(view.query), view.ts // (settings.bucket_s * 1_000)
    shown = UNIT if view.revision == 1 else 0
    for entry in view.items:
        clicks = (entry.clicks > 0) - (entry.clicks - entry.d_clicks > 0)
        orders = (entry.orders > 0) - (entry.orders - entry.d_orders > 0)
        if shown or clicks or orders:
            yield CountDelta(query, entry.item, bucket, shown, clicks, orders, 0, entry.position)


def _parts(deltas: tuple[CountDelta, ...]) -> Iterator[tuple[CountDelta, ...]]:
    """The deltas in pieces of bounded size; at least one piece, which may be empty."""
    piece: list[CountDelta] = []
    size = 0
    for delta in deltas:
        bytes_ = 80 + 2 * len(delta.query.encode()) + 2 * len(delta.item.encode())
        if piece and size + bytes_ > PART_BYTES:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(delta)
        size += bytes_
    yield tuple(piece)
