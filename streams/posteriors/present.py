"""Prefixes of the items' identifiers at a stamp: those of the run, and where items have come and moved by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.prefixes import Prefixes
from schemas.events import ItemAdded


class ItemPrefixes(NamedTuple):
    """The identifiers of N items, of which the first ``levels`` codes count."""

    version: str
    items: tuple[str, ...]
    sids_NL: NDArray[np.int32]
    levels: int

    def after(self, now: Mapping[str, Sequence[int]]) -> Prefixes:
        """Where these items have these identifiers now; those that are not among the N come behind."""
        sids_NL, rest = self.sids_NL.copy(), dict(now)
        for row, item in enumerate(self.items):
            if item in rest:
                sids_NL[row] = rest.pop(item)
        if rest:
            sids_NL = np.concatenate([sids_NL, np.array(list(rest.values()), np.int32)])
        return Prefixes.of(self.version, (*self.items, *rest), sids_NL, self.levels)


class PrefixesAt:
    """Asked for every stamp. A removed item keeps its last prefix: what is known of it stands where it was earned."""

    def __init__(self, first: ItemPrefixes, read: Callable[[], Sequence[ItemAdded]], settle_ms: int) -> None:
        """``read``: the records so far (`streams.item_log.ItemLog`). A record counts from ``settle_ms`` after its event time on:
        by then it has come, so that a stamp is the same at every replay."""
        self._first, self._read, self._settle_ms = first, read, settle_ms
        self._held: tuple[dict[str, tuple[int, ...]], Prefixes] = ({}, first.after({}))

    def __call__(self, stamp: int) -> Prefixes:
        """At event time ``stamp`` (ms): of each item the last record that has an identifier."""
        until = stamp - self._settle_ms
        told = (r for r in self._read() if r.ts <= until and r.sid)
        now = {record.item: tuple(record.sid) for record in told}
        if now != self._held[0]:
            self._held = now, self._first.after(now)
        return self._held[1]
