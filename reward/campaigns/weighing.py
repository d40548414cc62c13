"""The weights of each item for one request: the defaults, and over them the campaigns in force, the winner last.

Letters: N items of the catalogue, B requests, K items of a request, P pairs of category and brand, C campaigns, S cells: kinds of items that no
campaign tells apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import Asked, Bools, ItemFacts
from reward.campaigns.force import precedence
from schemas.campaigns import Campaign
from schemas.weights import RewardWeights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The weights that a campaign may set.
NAMES: Final = ("relevance", "ctr", "click", "order")
DAY_MS: Final = 86_400_000
#: Sets of applying campaigns whose tables are kept.
TABLES: Final = 256


@dataclass(frozen=True)
class ItemWeights:
    """Weights [K] of K items; what `reward.composite` takes in place of one set for all."""

    relevance: Floats
    ctr: Floats
    click: Floats
    order: Floats
    multiplier: Floats  #: on the item's whole reward


class _Table(NamedTuple):
    """What a set of campaigns makes of each cell."""

    weights_4S: Floats  #: in the order of `NAMES`
    brand_S: Floats
    margin_S: Floats  #: what a whole margin adds to the factor 1
    fresh_S: Floats
    fresh_ms_S: Floats  #: for how long an item is new


class Weighing:
    """One version of the weights over one catalogue; made once, it answers in microseconds."""

    def __init__(self, weights: RewardWeights, facts: ItemFacts) -> None:
        self.weights, self._facts = weights, facts
        # The winner comes last, so that it overwrites.
        self._campaigns = sorted(weights.campaigns, key=precedence, reverse=True)
        self._queries = [frozenset(c.scope.queries) for c in self._campaigns]
        inside_CP = [facts.pairs_among(c.scope.categories, c.scope.brands) for c in self._campaigns]
        brand_CP = [_brand_factors(c, facts) for c in self._campaigns]
        if self._campaigns:
            cells_S2C, cell_P = np.unique(np.stack([*inside_CP, *brand_CP], axis=1), axis=0, return_inverse=True)
            self._cell_N = cell_P.reshape(-1)[facts.pair_N]
            self._inside_SC = cells_S2C[:, : len(self._campaigns)].astype(np.bool_)
            self._brand_SC = cells_S2C[:, len(self._campaigns) :]
        self._tables = lru_cache(maxsize=TABLES)(self._table)

    def of(self, asked: Asked, rows_K: Ints, at_ms: int) -> ItemWeights | RewardWeights:
        """Weights of these rows of the catalogue for a request at the event time ``at_ms``.

        Where no campaign applies these are the defaults themselves, one set for all.
        """
        applying = self._applying(asked, at_ms)
        return self._weights(applying, rows_K, at_ms) if applying else self.weights

    def of_pages(self, asked: Sequence[Asked], at_ms_B: Ints, page_K: Ints, rows_K: Ints) -> ItemWeights | RewardWeights:
        """`of` for B requests at once: row ``rows_K`` is of the request ``page_K`` (0 to B - 1)."""
        applying_BC = self._applying_all(asked, at_ms_B)
        if not applying_BC.any():
            return self.weights
        sets: dict[bytes, int] = {}
        set_B = np.fromiter((sets.setdefault(one.tobytes(), len(sets)) for one in applying_BC), np.int64, len(asked))
        columns_5K = np.empty((5, len(rows_K)))
        for raw, number in sets.items():
            here_K = set_B[page_K] == number
            one = tuple(np.flatnonzero(np.frombuffer(raw, np.bool_)).tolist())
            found = self._weights(one, rows_K[here_K], at_ms_B[page_K[here_K]]) if one else self.weights
            for column_K, name in zip(columns_5K, (*NAMES, "multiplier"), strict=True):
                column_K[here_K] = getattr(found, name)
        return ItemWeights(*columns_5K)

    def _weights(self, applying: tuple[int, ...], rows_K: Ints, at_ms: int | Ints) -> ItemWeights:
        table, cell_K = self._tables(applying), self._cell_N[rows_K]
        since_K = self._facts.available_from_N[rows_K]
        young_K = (since_K > 0) & (at_ms - since_K < table.fresh_ms_S[cell_K])
        margin_K = 1.0 + table.margin_S[cell_K] * self._facts.margin_N[rows_K]
        multiplier_K = margin_K * np.where(young_K, table.fresh_S[cell_K], 1.0) * table.brand_S[cell_K]
        relevance_K, ctr_K, click_K, order_K = table.weights_4S[:, cell_K]
        return ItemWeights(relevance_K, ctr_K, click_K, order_K, multiplier_K)

    def explain(self, asked: Asked, rows_K: Ints, at_ms: int) -> tuple[str, ...]:
        """Ids of the campaigns that apply to the request and any of these rows, the winner first."""
        applying = self._applying(asked, at_ms)
        if not applying:
            return ()
        meets_C: Bools = np.any(self._inside_SC[self._cell_N[rows_K]], axis=0)
        return tuple(self._campaigns[n].id for n in reversed(applying) if meets_C[n])

    def _applying(self, asked: Asked, at_ms: int) -> tuple[int, ...]:
        return tuple(n for n, c in enumerate(self._campaigns) if c.runs(at_ms) and self._asks(n, c, asked))

    def _applying_all(self, asked: Sequence[Asked], at_ms_B: Ints) -> Bools:
        """`_applying` of B requests, as truth values [B, C]."""
        applying_BC = np.ones((len(asked), len(self._campaigns)), np.bool_)
        for n, campaign in enumerate(self._campaigns):
            scope = campaign.scope
            applying_BC[:, n] &= (campaign.starts_ms <= at_ms_B) & ((campaign.ends_ms == 0) | (at_ms_B < campaign.ends_ms))
            if scope.queries or scope.segments or scope.markets:
                applying_BC[:, n] &= np.fromiter((self._asks(n, campaign, one) for one in asked), np.bool_, len(asked))
        return applying_BC

    def _asks(self, n: int, campaign: Campaign, asked: Asked) -> bool:
        scope = campaign.scope
        return (
            (not scope.queries or asked.query in self._queries[n])
            and (not scope.segments or asked.segment in scope.segments)
            and (not scope.markets or asked.market in scope.markets)
        )

    def _table(self, applying: tuple[int, ...]) -> _Table:
        cells = len(self._inside_SC)
        weights_4S = np.array([np.full(cells, getattr(self.weights, name)) for name in NAMES])
        table = _Table(weights_4S, np.ones(cells), np.zeros(cells), np.ones(cells), np.zeros(cells))
        for n in applying:
            campaign, inside_S = self._campaigns[n], self._inside_SC[:, n]
            for weight_S, name in zip(weights_4S, NAMES, strict=True):
                value = getattr(campaign, name)
                if value is not None:
                    weight_S[inside_S] = value
            multipliers = campaign.multipliers
            if multipliers.margin != 1.0:
                table.margin_S[inside_S] = multipliers.margin - 1.0
            if multipliers.new_items != 1.0:
                table.fresh_S[inside_S] = multipliers.new_items
                table.fresh_ms_S[inside_S] = multipliers.new_days * DAY_MS
            named_S = inside_S & (self._brand_SC[:, n] > 0)
            table.brand_S[named_S] = self._brand_SC[named_S, n]
        return table


def _brand_factors(campaign: Campaign, facts: ItemFacts) -> Floats:
    """The factor [P] that a campaign sets for each pair's brand; 0: none."""
    factor_P = np.zeros(len(facts.pairs_among((), ())))
    for brand, factor in campaign.multipliers.brands.items():
        factor_P[facts.pairs_among((), (brand,))] = factor
    return factor_P
