"""Bounded memory for counts: what is too old is forgotten, and pairs beyond the bound merge into their items.

The rule is a function of the counts and the time alone, so that a replay evicts the same pairs. Nothing of a merged pair is
lost but the query's name: its rows are added, as integers, to the row of the same item, position and bucket that stands
for all such queries, and stay evidence of the item, of its prefix and of the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reward.counts import DAY_MS, UNIT, Counts, Ints, Rows, rest_keys
from reward.keys import REST, Keys
from reward.settings import PosteriorSettings


class Swept(NamedTuple):
    """What `sweep` did: ``evicted`` pairs merged into their items, ``forgotten`` rows were too old."""

    evicted: int
    forgotten: int


def sweep(counts: Counts, now: int, settings: PosteriorSettings, known_I: Keys | None = None) -> Swept:
    """Bring ``counts`` within their bounds at event time ``now`` (ms).

    Rows older than ``kept_half_lives`` go. Pairs merge into their item when a net count of theirs is below zero (a
    retraction that came after its pair was evicted) or nothing of them was shown, and beyond ``max_pairs`` in the order of
    their decayed showings, least first, ties by key. Items that are not ``known_I`` (sorted) all merge into one.
    """
    bucket_ms = settings.bucket_s * 1_000
    oldest = int((now - settings.kept_half_lives * settings.half_life_days * DAY_MS) // bucket_ms)
    rows = counts.rows
    young_R = rows.bucket_R >= oldest
    if not young_R.all():
        counts.replace(rows.take(young_R))
    forgotten = int(len(young_R) - young_R.sum())
    evicted = _merge_unknown(counts, known_I) if known_I is not None else 0
    return Swept(evicted + _merge_least(counts, now, settings), forgotten)


def _merge_unknown(counts: Counts, known_I: Keys) -> int:
    rows = counts.rows
    common = np.array([REST], np.uint64)
    known_R = np.isin(rows.item_R, known_I) | (rows.item_R == common)
    if known_R.all():
        return 0
    strange = rows.take(~known_R)
    counts.replace(rows.take(known_R))
    items_R = np.broadcast_to(common, strange.item_R.shape)
    counts.merge(strange._replace(pair_R=rest_keys(items_R), item_R=items_R))
    return len(strange.starts)


def _merge_least(counts: Counts, now: int, settings: PosteriorSettings) -> int:
    rows, starts = counts.rows, counts.rows.starts
    if not len(starts):
        return 0
    rest_P = rows.pair_R[starts] == rest_keys(rows.item_R[starts])
    shown_P, clicks_P, orders_P = (np.add.reduceat(column, starts) for column in rows[3:])
    out_P = ~rest_P & ((shown_P <= 0) | (clicks_P < 0) | (orders_P < 0))
    over = int((~rest_P & ~out_P).sum()) - settings.max_pairs
    if over > 0:
        weight_P = np.add.reduceat(counts.weights(now, settings) * rows.examined_R / UNIT, starts)
        kept = np.flatnonzero(~rest_P & ~out_P)
        order: Ints = np.lexsort((rows.pair_R[starts][kept], weight_P[kept]))
        out_P[kept[order[:over]]] = True
    if not out_P.any():
        return 0
    out_R = np.repeat(out_P, np.diff(np.r_[starts, len(rows.pair_R)]))
    leaving: Rows = rows.take(out_R)
    counts.replace(rows.take(~out_R))
    counts.merge(leaving._replace(pair_R=rest_keys(leaving.item_R)))
    return int(out_P.sum())
