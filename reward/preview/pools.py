"""The pools of previewed pages as columns, and how a book orders them.

Letters: L pages with a pool, X candidates of all pools, K places of the longest page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import Asked
from reward.campaigns.weighing import Weighing
from reward.composite import Excess, serving_score
from reward.preview.pages import Bools, Floats, Ints, Pages
from reward.settings import ServingScoreSettings
from schemas.pools import Pool

#: Pools sorted at a time.
BLOCK: Final = 1_024


@dataclass(frozen=True, eq=False)
class Pools:
    """Pool after pool; every page of it shows items of its own pool."""

    page_L: Ints  #: number of the page among the `Pages`, ascending
    asked: tuple[Asked, ...]
    ts_L: Ints
    temperature_L: Floats
    owner_X: Ints  #: 0 .. L - 1
    start_L: Ints
    row_X: Ints
    logp_X: Floats
    tier_X: Floats
    ctr_X: Floats
    excess_X: Excess
    shown_LK: Ints  #: candidate at each place of the page, in X; -1 past its end
    foreign: int  #: pools that lack an item of their page

    @classmethod
    def of(cls, pools: Mapping[str, Pool], pages: Pages, row: Mapping[str, int]) -> Pools | None:
        """Those of ``pools`` (by request id) that belong to the pages; None when there are none."""
        found: list[tuple[int, Pool, list[int]]] = []
        foreign, starts, sizes = 0, pages.start_M.tolist(), pages.size_M.tolist()
        for m, request in enumerate(pages.requests):
            if (pool := pools.get(request)) is None:
                continue
            try:
                places = [pool.items.index(item) for item in pages.items[starts[m] : starts[m] + sizes[m]]]
            except ValueError:
                foreign += 1
            else:
                found.append((m, pool, places))
        if not found:
            return None
        kept = [pool for _, pool, _ in found]
        size_L = np.array([len(pool.items) for pool in kept], np.int64)
        start_L = np.cumsum(size_L) - size_L
        shown_LK = np.full((len(kept), max(len(places) for _, _, places in found)), -1, np.int64)
        for n, (_, _, places) in enumerate(found):
            shown_LK[n, : len(places)] = places
        return cls(
            page_L=np.array([m for m, _, _ in found], np.int64),
            asked=tuple(pages.asked[m] for m, _, _ in found),
            ts_L=np.array([pool.ts for pool in kept], np.int64),
            temperature_L=np.array([pool.temperature for pool in kept]),
            owner_X=np.repeat(np.arange(len(kept)), size_L),
            start_L=start_L,
            row_X=np.fromiter(map(row.get, chain.from_iterable(pool.items for pool in kept), repeat(len(row))), np.int64),
            logp_X=np.frombuffer(b"".join(pool.logp for pool in kept), "<f8"),
            tier_X=np.frombuffer(b"".join(pool.tier for pool in kept), "<i1").astype(np.float64),
            ctr_X=np.frombuffer(b"".join(pool.ctr for pool in kept), "<f8"),
            excess_X=Excess(
                _spread([pool.excess_relevance for pool in kept], size_L),
                _spread([pool.excess_click for pool in kept], size_L),
            ),
            shown_LK=np.where(shown_LK >= 0, shown_LK + start_L[:, None], -1),
            foreign=foreign,
        )

    def __len__(self) -> int:
        return len(self.page_L)

    def only(self, keep_L: Bools) -> Pools:
        """Without the pools where ``keep_L`` is false."""
        keep_X, size_L = keep_L[self.owner_X], np.bincount(self.owner_X, minlength=len(self))[keep_L]
        start_L = np.cumsum(size_L) - size_L
        moved_L = start_L - self.start_L[keep_L]
        shown_LK = self.shown_LK[keep_L]
        return Pools(
            page_L=self.page_L[keep_L],
            asked=tuple(one for one, keep in zip(self.asked, keep_L.tolist(), strict=True) if keep),
            ts_L=self.ts_L[keep_L],
            temperature_L=self.temperature_L[keep_L],
            owner_X=np.repeat(np.arange(len(size_L)), size_L),
            start_L=start_L,
            row_X=self.row_X[keep_X],
            logp_X=self.logp_X[keep_X],
            tier_X=self.tier_X[keep_X],
            ctr_X=self.ctr_X[keep_X],
            excess_X=Excess(*(np.asarray(column)[keep_X] for column in self.excess_X)),
            shown_LK=np.where(shown_LK >= 0, shown_LK + moved_L[:, None], -1),
            foreign=self.foreign,
        )

    def scores(self, weighing: Weighing, settings: ServingScoreSettings) -> Floats:
        """Serving score [X] under a book: what the server would draw by."""
        weights = weighing.of_pages(self.asked, self.ts_L, self.owner_X, self.row_X)
        return serving_score(self.logp_X, self.tier_X, self.ctr_X, weights, settings, self.excess_X)

    def list_logp(self, score_X: Floats) -> Floats:
        """log P(item at place k | items above) [L, K] of the shown pages, drawn from these scores; 0 past a page's end.

        Plackett-Luce: ``u_k - log sum exp(u)`` over what is left, u = score / temperature (`serving.exploration`).
        """
        u_X = score_X / self.temperature_L[self.owner_X]
        there_LK = self.shown_LK >= 0
        u_LK = np.where(there_LK, u_X[self.shown_LK], -np.inf)
        rest_X = u_X.copy()
        rest_X[self.shown_LK[there_LK]] = -np.inf
        peak_L = np.maximum.reduceat(rest_X, self.start_L)
        peak_L[np.isneginf(peak_L)] = 0.0
        with np.errstate(divide="ignore"):  # nothing left but the page
            left_L = peak_L + np.log(np.add.reduceat(np.exp(rest_X - peak_L[self.owner_X]), self.start_L))
        logp_LK = np.zeros_like(u_LK)
        for k in reversed(range(u_LK.shape[1])):
            left_L = np.logaddexp(left_L, u_LK[:, k])
            here_L = there_LK[:, k]
            logp_LK[here_L, k] = np.minimum(u_LK[here_L, k] - left_L[here_L], 0.0)
        return logp_LK

    def first(self, score_X: Floats) -> Ints:
        """[L, K]: the candidates with the largest scores, best first, as many as the page has places; -1 past its end."""
        first_LK, (pages, places) = np.full_like(self.shown_LK, -1), self.shown_LK.shape
        size_L = np.bincount(self.owner_X, minlength=pages)
        for begin in range(0, pages, BLOCK):
            block = slice(begin, begin + BLOCK)
            at_BC = self.start_L[block, None] + np.arange(max(int(size_L[block].max()), places))
            past_BC = at_BC >= (self.start_L + size_L)[block, None]
            score_BC = np.where(past_BC, -np.inf, score_X[np.minimum(at_BC, len(score_X) - 1)])
            order_BK = np.argsort(-score_BC, axis=1, kind="stable")[:, :places]
            first_LK[block] = np.take_along_axis(at_BC, order_BK, axis=1)
        return np.where(self.shown_LK >= 0, first_LK, -1)


def _spread(columns: Sequence[bytes], size_L: Ints) -> Floats:
    """A column that may be whole, one number for its pool, or missing: 0."""
    if not any(columns):
        return np.zeros(int(size_L.sum()))
    parts: list[NDArray[np.float64]] = []
    for column, size in zip(columns, size_L.tolist(), strict=True):
        values = np.frombuffer(column, "<f8") if column else np.zeros(1)
        parts.append(values if len(values) == size else np.full(size, values[0]))
    return np.concatenate(parts)
