"""Integer counts of (query, item) per position and bucket of event time: exact sums in any order, decayed when read.

Integers make revision and retraction exact: what was added and taken back leaves no trace, not even of rounding. Rows are
columns of numbers sorted by (pair, bucket, position), so that equal contents are equal bytes and sums to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from reward.examination import Examination, estimate
from reward.keys import REST, Keys, key, pair_keys
from reward.settings import PosteriorSettings
from schemas.errors import Corrupt
from schemas.posteriors import CountDelta

#: One showing, and the unit of examination mass: counts of both are in units of 2**-20.
UNIT: Final = 1 << 20
DAY_MS: Final = 86_400_000
#: Positions from here on count as this one.
LAST_POSITION: Final = (1 << 16) - 1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Bytes of a row in memory and in `Counts.dump`.
ROW_BYTES: Final = 48


class Rows(NamedTuple):
    """R rows, one per (pair, bucket, position): ``slot_R`` is bucket * 2**16 + position; counts as in `CountDelta`."""

    pair_R: Keys
    item_R: Keys
    slot_R: Ints
    examined_R: Ints
    clicks_R: Ints
    orders_R: Ints

    @property
    def position_R(self) -> Ints:
        """Position of each row."""
        return self.slot_R & LAST_POSITION

    @property
    def bucket_R(self) -> Ints:
        """Bucket of each row."""
        return self.slot_R >> 16

    def take(self, which: NDArray[np.bool_] | Ints) -> Rows:
        """Some of the rows."""
        pair_R, item_R, slot_R, examined_R, clicks_R, orders_R = self
        return Rows(pair_R[which], item_R[which], slot_R[which], examined_R[which], clicks_R[which], orders_R[which])

    @property
    def starts(self) -> Ints:
        """Where each pair begins; the rows are sorted."""
        return np.flatnonzero(np.r_[True, self.pair_R[1:] != self.pair_R[:-1]][: len(self.pair_R)])


NO_ROWS: Final = Rows(np.zeros(0, np.uint64), np.zeros(0, np.uint64), *(np.zeros(0, np.int64) for _ in range(4)))


class Sums(NamedTuple):
    """Decayed sums at one time: P pairs sorted by key, I items sorted by key.

    With w the decay of a showing and theta its examination: ``n_P`` sum of w theta, ``n2_P`` of w^2 theta, ``s2_P`` of
    w^2 theta^2, ``clicks_P`` and ``orders_P`` of w. ``rest_P``: what is left of evicted pairs, one per item.
    """

    pair_P: Keys
    item_P: Ints
    item_I: Keys
    rest_P: NDArray[np.bool_]
    n_P: Floats
    n2_P: Floats
    s2_P: Floats
    clicks_P: Floats
    orders_P: Floats


class Counts:
    """Sums of `CountDelta`. Equal contents give equal `rows` and `dump`, however they came in."""

    def __init__(self, deltas: Iterable[CountDelta] = ()) -> None:
        self._rows = NO_ROWS
        self._pending: list[tuple[int, int, int, int, int, int]] = []
        self.add(deltas)

    def add(self, deltas: Iterable[CountDelta]) -> None:
        """Add changes; negative ones take back."""
        pending = self._pending
        for d in deltas:
            slot = d.bucket << 16 | min(d.position, LAST_POSITION)
            pending.append((key(d.query), key(d.item), slot, d.examined, d.clicks, d.orders))

    def merge(self, rows: Rows) -> None:
        """Add rows of other counts."""
        self._rows = _merged(self.rows, rows)

    def replace(self, rows: Rows) -> None:
        """Become ``rows``, which are sorted."""
        self._pending.clear()
        self._rows = rows

    @property
    def rows(self) -> Rows:
        """The contents, sorted, without rows that are all zero."""
        if self._pending:
            query_R, item_R, *counts = (list(column) for column in zip(*self._pending, strict=True))
            self._pending.clear()
            items_R = np.array(item_R, np.uint64)
            pairs_R = pair_keys(np.array(query_R, np.uint64), items_R)
            fresh = Rows(pairs_R, items_R, *(np.array(column, np.int64) for column in counts))
            self._rows = _merged(self._rows, fresh)
        return self._rows

    def dump(self) -> bytes:
        """The contents as bytes."""
        return b"".join(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes() for column in self.rows)

    @classmethod
    def load(cls, data: bytes) -> Counts:
        """What `dump` returned.

        Raises:
            Corrupt: it is not a whole number of rows.
        """
        count, rest = divmod(len(data), ROW_BYTES)
        if rest:
            raise Corrupt("posterior counts", f"{len(data)} bytes, but rows have {ROW_BYTES}", "replay them from the views")
        columns = [np.frombuffer(data, "<u8" if n < 2 else "<i8", count, n * count * 8) for n in range(len(NO_ROWS))]
        counts = cls()
        counts.replace(Rows(*columns))
        return counts

    def weights(self, now: int, settings: PosteriorSettings) -> Floats:
        """Decay [R] of the rows at event time ``now`` (ms): 2 ** -(age of the bucket's middle / half-life)."""
        age_R = np.maximum(0.0, now - (self.rows.bucket_R + 0.5) * (settings.bucket_s * 1_000))
        return np.asarray(np.exp2(-age_R / (settings.half_life_days * DAY_MS)))

    def examination(self, now: int, version: int, settings: PosteriorSettings) -> Examination:
        """Examination of the positions, from what pairs that were shown at several of them say."""
        rows, w_R = self.rows, self.weights(now, settings)
        place_R = np.repeat(np.arange(len(rows.starts)), np.diff(np.r_[rows.starts, len(rows.pair_R)]))
        # What many queries left to an item is no pair: they differ in relevance and in where they show it.
        position_R = np.where(_rest(rows), 0, rows.position_R)
        return estimate(place_R, position_R, w_R * rows.examined_R / UNIT, w_R * rows.clicks_R, version, settings)

    def sums(self, now: int, settings: PosteriorSettings, examination: Examination) -> Sums:
        """Decayed sums at event time ``now`` (ms), examined as ``examination`` says."""
        rows, w_R, starts = self.rows, self.weights(now, settings), self.rows.starts
        theta_R = examination.at(rows.position_R)
        mass_R = w_R * rows.examined_R / UNIT * theta_R
        item_I, item_P = np.unique(rows.item_R[starts], return_inverse=True)
        total = [
            np.add.reduceat(values_R, starts) if len(starts) else np.zeros(0)
            for values_R in (mass_R, w_R * mass_R, w_R * theta_R * mass_R, w_R * rows.clicks_R, w_R * rows.orders_R)
        ]
        first = rows.take(starts)
        return Sums(first.pair_R, item_P.astype(np.int64), item_I, _rest(first), *total)


def _rest(rows: Rows) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", rows.pair_R == rest_keys(rows.item_R))


def rest_keys(item_N: Keys) -> Keys:
    """Keys [N] of the rows that hold what is left of items' evicted pairs."""
    return pair_keys(np.array([REST], np.uint64), item_N)


def _merged(one: Rows, other: Rows) -> Rows:
    both = Rows(*(np.concatenate(columns) for columns in zip(one, other, strict=True)))
    rows = both.take(np.lexsort((both.slot_R, both.pair_R)))
    if not len(rows.pair_R):
        return rows
    new_R = (rows.pair_R[1:] != rows.pair_R[:-1]) | (rows.slot_R[1:] != rows.slot_R[:-1])
    starts = np.flatnonzero(np.r_[True, new_R])
    sums = [np.add.reduceat(column, starts) for column in rows[3:]]
    merged = Rows(rows.pair_R[starts], rows.item_R[starts], rows.slot_R[starts], *sums)
    return merged.take((merged.examined_R != 0) | (merged.clicks_R != 0) | (merged.orders_R != 0))
