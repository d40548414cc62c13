"""Counts of one partition of views, told as deltas each time event time passes a multiple of ``snapshot_every_s``.

Views emitted in (previous stamp, stamp] belong to ``stamp``. A stamp closes when a later record of the partition says
that event time has gone past it; views come in order of ``emitted_at``, so nothing can follow into a closed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from reward.counts import UNIT
from reward.settings import PosteriorSettings
from reward.text import normalise
from schemas.codec import encode
from schemas.errors import Incompatible
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.topics import DELTAS
from schemas.views import View
from streams.posteriors.open_counts import OpenCounts
from streams.runtime.core import Output
from streams.views import Followed, ViewsCore

NAME: Final = "posteriors"
#: Deltas are cut into records of about this size (bytes), below the broker's and the reader's limit.
PART_BYTES: Final = 400_000


class _State(Followed):
    emitted: int = 0  # the last stamp told
    open: tuple[CountDelta, ...] = ()
    bucket_s: int = 0  # what the buckets of ``open`` are counted in; 0: not told, as by versions before


class CountsCore(ViewsCore[_State]):
    """One partition of views in, `PosteriorDelta` out."""

    name = NAME

    def __init__(self, partition: int, settings: PosteriorSettings) -> None:
        self._settings, self._every = settings, settings.snapshot_every_s * 1_000
        super().__init__(partition, _State(bucket_s=settings.bucket_s))

    def _become(self, state: _State) -> None:
        super()._become(state)
        self._open = OpenCounts(state.open)

    def _take(self, view: View, offset: int) -> None:
        self._open.add(view_deltas(view, self._settings))

    def _pass(self, now: int) -> None:
        """Close every stamp before ``now``: one that has content, and the last, which tells that time went on."""
        state = self._state
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

    def dump(self) -> bytes:
        """The state as msgpack."""
        self._state.open = self._open.deltas()
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned.

        Raises:
            Incompatible: it was dumped under another `PosteriorSettings.bucket_s`.
        """
        state = msgspec.msgpack.decode(data, type=_State)
        state.bucket_s = same_buckets(NAME, state.bucket_s, self._settings)
        self._become(state)


def same_buckets(agent: str, dumped_s: int, settings: PosteriorSettings) -> int:
    """The seconds that the buckets of a state count; ``dumped_s`` 0: not told, so those of ``settings``.

    Raises:
        Incompatible: they are not those of ``settings``: by another unit each count would have another age.
    """
    if dumped_s not in (0, settings.bucket_s):
        remedy = (
            f"set it back to {dumped_s}; to count by {settings.bucket_s}, start a new run folder, or new topics, and replay the "
            "events into it"
        )
        raise Incompatible(f"reward.posterior.bucket_s of the state of {agent}", dumped_s, settings.bucket_s, remedy)
    return settings.bucket_s


def view_deltas(view: View, settings: PosteriorSettings) -> Iterator[CountDelta]:
    """What a revision of a view changes: that it was shown at revision 1, its clicks and orders by their difference.

    An item counts as clicked or ordered once in a view, however often it was.
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
