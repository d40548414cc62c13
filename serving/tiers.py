"""Tiers that were worked out before: queries come back, and what they find is mostly what they found.

The scorer is asked for the new items of a pool alone. It gives a pair the same tier whatever else it is asked with, so nothing
but time is saved.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.text import normalise

IntArray = NDArray[np.int64]
TierArray = NDArray[np.int8]

#: Queries remembered, and items of each: nine bytes an item, so 40 MB where every query has found as many.
QUERIES, ITEMS = 4_096, 1_024


class Relevance(Protocol):
    """What is needed of `reward.relevance.RelevanceScorer`."""

    def tiers(self, query: str, rows: IntArray) -> tuple[TierArray, NDArray[np.float32]]:
        """Tier and confidence [C] of catalogue rows."""


class _Known(NamedTuple):
    """Of one query: K rows, sorted, and their tiers."""

    row_K: IntArray
    tier_K: TierArray

    def places(self, rows_C: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """(where each row would stand, whether it stands there)."""
        place_C = np.searchsorted(self.row_K, rows_C)
        there_C = self.row_K[np.minimum(place_C, len(self.row_K) - 1)] == rows_C if len(self.row_K) else rows_C < 0
        return place_C, there_C

    def grown(self, rows_M: IntArray, tier_M: TierArray) -> _Known:
        """With M rows that it lacks; without its own where they would be too many together."""
        own = self if len(self.row_K) + len(rows_M) <= ITEMS else NOTHING
        row_K, tier_K = np.concatenate([own.row_K, rows_M]), np.concatenate([own.tier_K, tier_M])
        order_K = np.argsort(row_K)
        return _Known(row_K[order_K], tier_K[order_K])


NOTHING = _Known(np.empty(0, np.int64), np.empty(0, np.int8))


class KnownTiers:
    """Over one scorer; not to be shared between threads."""

    def __init__(self, scorer: Relevance) -> None:
        self._scorer = scorer
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def of(self, query: str, rows_C: IntArray) -> TierArray:
        """tier_C of C distinct catalogue rows."""
        text = normalise(query)
        known = self._known.get(text, NOTHING)
        place_C, there_C = known.places(rows_C)
        tier_C = np.empty(len(rows_C), np.int8)
        tier_C[there_C] = known.tier_K[place_C[there_C]]
        if not there_C.all():
            tier_C[~there_C] = fresh_M = self._scorer.tiers(query, rows_C[~there_C])[0]
            known = known.grown(rows_C[~there_C], fresh_M)
        self._known[text] = known
        self._known.move_to_end(text)
        if len(self._known) > QUERIES:
            self._known.popitem(last=False)
        return tier_C
