"""What campaigns add to a search: CPU microseconds for the weights and terms of one request, beside one set of weights for all."""

from __future__ import annotations

import statistics
import time

import numpy as np

from headrace.shop.vocabulary import CATEGORIES
from headrace.shop.world import ShopWorld
from reward.campaigns.facts import ItemFacts
from reward.campaigns.relative import MOST
from reward.composite import serving_terms
from reward.settings import ServingScoreSettings
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights
from serving.ordering import Ordering
from serving.requests import SearchRequest

CAMPAIGNS, BEAM, REPEATS, CALLS = 20, 50, 9, 200


def added_us(world: ShopWorld) -> float:
    """Median of interleaved repeats: a book of 20 campaigns that all apply, and as many absorbed entries as are kept."""
    campaigns = tuple(
        Campaign(
            f"c{n}", 1, "c", "c", Scope(categories=(CATEGORIES[n % len(CATEGORIES)].name,), segments=("new",)), ctr=1.0 + n / 10,
            multipliers=Multipliers(margin=1.5, new_items=1.2, brands={world.catalogue.brands[n]: 1.1}),
        )
        for n in range(CAMPAIGNS)
    )  # fmt: skip
    facts = ItemFacts.of(world.catalogue)
    absorbed = [Absorbed(1 / MOST, RewardWeights(relevance=n, campaigns=campaigns[n:])) for n in range(MOST)]
    full = Ordering(RewardWeights(campaigns=campaigns, before=RewardWeights()), absorbed, facts, 0.05)
    plain = Ordering(RewardWeights(), (), facts)
    request = SearchRequest("r", world.end_ms, "u1", world.queries[0].text, segment="new", market="north")
    rows = np.random.default_rng(0).choice(len(world.catalogue), BEAM, replace=False)
    logp_C, tier_C, ctr_C = np.linspace(-9, -1, BEAM), rows % 4, np.full(BEAM, 0.05)

    def seconds(ordering: Ordering) -> float:
        begun = time.process_time()
        for _ in range(CALLS):
            (wished, excess), _campaigns = ordering.of(request, rows)
            serving_terms(logp_C, tier_C, ctr_C, wished, ServingScoreSettings(), excess)
        return (time.process_time() - begun) / CALLS

    return 1e6 * statistics.median(seconds(full) - seconds(plain) for _ in range(REPEATS))
