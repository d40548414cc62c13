"""Human labels of the simulated shop: a sample of pairs that a judge would see, now and then a tier off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.shop.catalogue import Columns
from headrace.shop.draws import stream
from headrace.shop.queries import Query, tier_of
from headrace.shop.settings import ShopSettings
from reward.judgments import Judgment
from schemas.catalogue import Catalogue

#: Share of a query's labels that go to each tier, as far as it has so many items: judges see what a search brings up.
MIX = {3: 0.35, 2: 0.25, 1: 0.25, 0: 0.15}


def sample_judgments(
    queries: Sequence[Query], columns: Columns, catalogue: Catalogue, settings: ShopSettings
) -> tuple[Judgment, ...]:
    """Labels for a share of ``queries``, over items that are on sale from the start."""
    on_sale_N = np.flatnonzero(catalogue.available_from_N == 0)
    judgments: list[Judgment] = []
    for query in queries:
        rng = stream(settings.seed, "judged", query.text)
        if rng.random() >= settings.judged_share:
            continue
        tier_N = tier_of(query, columns, on_sale_N)
        for n in _chosen(tier_N, settings.judged_items, rng):
            tier = int(tier_N[n])
            if rng.random() < settings.judgment_noise:
                tier = min(3, max(0, tier + (1 if rng.random() < 0.5 else -1)))
            judgments.append(Judgment(query.text, catalogue.items[int(on_sale_N[n])], tier))
    return tuple(judgments)


def _chosen(tier_N: NDArray[np.int8], count: int, rng: np.random.Generator) -> list[int]:
    chosen: list[int] = []
    for tier, share in MIX.items():
        there = np.flatnonzero(tier_N == tier)
        take = min(len(there), max(1, round(share * count)))
        chosen += rng.choice(there, take, replace=False).tolist() if take else []
    return chosen
