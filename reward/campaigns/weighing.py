"""The weights of each item for one request: the defaults, and over them the campaigns in force, the winner last.

Letters: N items of the catalogue, K items of a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True)
class ItemWeights:
    """Weights [K] of K items; what `reward.composite` takes in place of one set for all."""

    relevance: Floats
    ctr: Floats
    click: Floats
    order: Floats
    multiplier: Floats  #: on the item's whole reward


class Weighing:
    """One version of the weights over one catalogue; holds a mask [N] for each campaign, and answers in microseconds."""

    def __init__(self, weights: RewardWeights, facts: ItemFacts) -> None:
        self.weights, self._facts = weights, facts
        # The winner comes last, so that it overwrites.
        self._campaigns = sorted(weights.campaigns, key=precedence, reverse=True)
        self._masks = [facts.among(c.scope.categories, c.scope.brands) for c in self._campaigns]
        self._queries = [frozenset(c.scope.queries) for c in self._campaigns]
        self._brands = [
            {facts.brands[name]: factor for name, factor in c.multipliers.brands.items() if name in facts.brands}
            for c in self._campaigns
        ]

    def of(self, asked: Asked, rows_K: Ints, at_ms: int) -> ItemWeights | RewardWeights:
        """Weights of these rows of the catalogue for a request at the event time ``at_ms``.

        Where no campaign applies these are the defaults themselves, one set for all.
        """
        applying = [n for n, c in enumerate(self._campaigns) if c.runs(at_ms) and self._asks(n, c, asked)]
        if not applying:
            return self.weights
        columns = {name: np.full(len(rows_K), getattr(self.weights, name)) for name in NAMES}
        margin_K, fresh_K, brand_K = (np.ones(len(rows_K)) for _ in range(3))
        for n in applying:
            campaign, inside_K = self._campaigns[n], self._masks[n][rows_K]
            for name in NAMES:
                value = getattr(campaign, name)
                if value is not None:
                    columns[name][inside_K] = value
            self._lean(n, campaign, rows_K, inside_K, at_ms, (margin_K, fresh_K, brand_K))
        return ItemWeights(**columns, multiplier=margin_K * fresh_K * brand_K)

    def _asks(self, n: int, campaign: Campaign, asked: Asked) -> bool:
        scope = campaign.scope
        return (
            (not scope.queries or asked.query in self._queries[n])
            and (not scope.segments or asked.segment in scope.segments)
            and (not scope.markets or asked.market in scope.markets)
        )

    def _lean(
        self, n: int, campaign: Campaign, rows_K: Ints, inside_K: Bools, at_ms: int, factors: tuple[Floats, Floats, Floats]
    ) -> None:
        """Overwrite the multipliers that this campaign sets, in place."""
        (margin_K, fresh_K, brand_K), multipliers = factors, campaign.multipliers
        if multipliers.margin != 1.0:
            margin_K[inside_K] = 1.0 + (multipliers.margin - 1.0) * self._facts.margin_N[rows_K[inside_K]]
        if multipliers.new_items != 1.0:
            since_K = self._facts.available_from_N[rows_K]
            young_K = (since_K > 0) & (at_ms - since_K < multipliers.new_days * DAY_MS)
            fresh_K[inside_K] = np.where(young_K[inside_K], multipliers.new_items, 1.0)
        for brand, factor in self._brands[n].items():
            brand_K[inside_K & (self._facts.brand_N[rows_K] == brand)] = factor
