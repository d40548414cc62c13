"""Integer counts of (query, item) per bucket of event time: exact sums in any order, decayed only when they are read.

Integers make revision and retraction exact: what was added and taken back leaves no trace, not even of rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.settings import PosteriorSettings
from schemas.posteriors import CountDelta

#: Examination mass is counted in units of 2**-20.
UNIT: Final = 1 << 20
DAY_MS: Final = 86_400_000

#: Columns of the rows: pair number, bucket, examined, squares, clicks, orders.
_WIDTH: Final = 6

Floats = NDArray[np.float64]


@lru_cache(maxsize=65_536)
def examination(position: int, power: float) -> tuple[int, int]:
    """Mass theta and its square at ``position`` (from 1), theta = position ** -power, both in units of 2**-20."""
    theta = position**-power
    return round(UNIT * theta), round(UNIT * theta * theta)


@dataclass(frozen=True)
class Sums:
    """Decayed sums at one time, in canonical order: queries and items sorted, pairs by (query, item).

    Shapes: P pairs. With w the decay of each impression's bucket: ``n_P`` sum of w theta, ``n2_P`` of w^2 theta,
    ``s2_P`` of w^2 theta^2, ``clicks_P`` and ``orders_P`` of w.
    """

    queries: tuple[str, ...]
    items: tuple[str, ...]
    query_P: NDArray[np.int64]
    item_P: NDArray[np.int64]
    n_P: Floats
    n2_P: Floats
    s2_P: Floats
    clicks_P: Floats
    orders_P: Floats


class Counts:
    """Sums of `CountDelta`. Equal contents give equal `deltas`, `dump` and `sums`, however they came in."""

    def __init__(self, deltas: Iterable[CountDelta] = ()) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self._pending: list[tuple[int, int, int, int, int, int]] = []
        self._rows_R6 = np.zeros((0, _WIDTH), np.int64)
        self.add(deltas)

    def add(self, deltas: Iterable[CountDelta]) -> None:
        """Add changes; negative ones take back."""
        ids, pending = self._ids, self._pending
        for d in deltas:
            pair = ids.setdefault((d.query, d.item), len(ids))
            pending.append((pair, d.bucket, d.examined, d.squares, d.clicks, d.orders))

    def deltas(self) -> tuple[CountDelta, ...]:
        """The contents, sorted by (query, item, bucket), without zeros."""
        rows_R6, names = self._canonical()
        return tuple(
            CountDelta(names[pair][0], names[pair][1], bucket, examined, clicks, orders, squares)
            for pair, bucket, examined, squares, clicks, orders in rows_R6.tolist()
        )

    def dump(self) -> bytes:
        """The contents as bytes."""
        return msgspec.msgpack.encode(self.deltas())

    @classmethod
    def load(cls, data: bytes) -> Counts:
        """What `dump` returned."""
        return cls(msgspec.msgpack.decode(data, type=tuple[CountDelta, ...]))

    def sums(self, now: int, settings: PosteriorSettings) -> Sums:
        """Decayed sums at event time ``now`` (ms): a bucket's weight is 2 ** -(age of its middle / half-life)."""
        rows_R6, names = self._canonical()
        bucket_ms = settings.bucket_s * 1_000
        age_R = np.maximum(0.0, now - (rows_R6[:, 1] + 0.5) * bucket_ms)
        w_R = np.exp2(-age_R / (settings.half_life_days * DAY_MS))
        pairs_P = len(names)
        mass_R, squares_R = rows_R6[:, 2] / UNIT, rows_R6[:, 3] / UNIT

        def total(values_R: Floats) -> Floats:
            # bincount adds in the order of the rows, which is canonical: equal contents, equal bits.
            return np.bincount(rows_R6[:, 0], weights=values_R, minlength=pairs_P).astype(np.float64)

        queries = tuple(dict.fromkeys(query for query, _ in names))
        items = tuple(sorted({item for _, item in names}))
        query_row = {query: n for n, query in enumerate(queries)}
        item_row = {item: n for n, item in enumerate(items)}
        return Sums(
            queries=queries,
            items=items,
            query_P=np.array([query_row[query] for query, _ in names], np.int64),
            item_P=np.array([item_row[item] for _, item in names], np.int64),
            n_P=total(w_R * mass_R),
            n2_P=total(w_R**2 * mass_R),
            s2_P=total(w_R**2 * squares_R),
            clicks_P=total(w_R * rows_R6[:, 4]),
            orders_P=total(w_R * rows_R6[:, 5]),
        )

    def _canonical(self) -> tuple[NDArray[np.int64], list[tuple[str, str]]]:
        """Rows sorted by (pair's rank, bucket) with the pair's rank in column 0, and the pairs in that order."""
        self._compact()
        names = list(self._ids)
        live = sorted({int(pair) for pair in np.unique(self._rows_R6[:, 0])}, key=names.__getitem__)
        rank_of = np.zeros(len(names), np.int64)
        rank_of[live] = np.arange(len(live))
        rows_R6 = self._rows_R6.copy()
        rows_R6[:, 0] = rank_of[rows_R6[:, 0]]
        return rows_R6[np.lexsort((rows_R6[:, 1], rows_R6[:, 0]))], [names[pair] for pair in live]

    def _compact(self) -> None:
        if not self._pending:
            return
        rows_R6 = np.concatenate([self._rows_R6, np.array(self._pending, np.int64)])
        self._pending.clear()
        rows_R6 = rows_R6[np.lexsort((rows_R6[:, 1], rows_R6[:, 0]))]
        starts = np.flatnonzero(np.r_[True, np.any(rows_R6[1:, :2] != rows_R6[:-1, :2], axis=1)])
        merged_R6 = np.concatenate([rows_R6[starts, :2], np.add.reduceat(rows_R6[:, 2:], starts, axis=0)], axis=1)
        self._rows_R6 = merged_R6[np.any(merged_R6[:, 2:] != 0, axis=1)]
