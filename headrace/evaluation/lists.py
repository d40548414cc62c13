"""What one page was worth: the metrics of a shown list, from the world's truth and the user's draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.world import Outcome, Request, World
from reward.composite import item_reward
from schemas.weights import RewardWeights
from trainers.evaluation import hit_rate, ndcg, reciprocal_rank

#: Items of a page that count.
K: Final = 10
#: Every arm is judged by the weights a run starts with, whatever was active when its page was made.
JUDGING: Final = RewardWeights()
#: What `Judge.page` returns, per page.
PAGE_METRICS: Final = ("reward_per_search", "clicks_per_search", "orders_per_search", "ndcg10", "hr10", "mrr10")


class Judge:
    """Knows a world's truth; the true tiers of a query over the whole catalogue are kept."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._tiers: dict[str, NDArray[np.int8]] = {}

    def page(self, request: Request, shown: Sequence[str]) -> tuple[dict[str, float], Outcome]:
        """Metrics of one page, and what the user did with it.

        ``reward_per_search``: mean over the shown items of R_item at `JUDGING`, with the true tier, the true
        click probability as CTR, and the drawn click and order. ``ndcg10``: gain 2^tier - 1 against the best ten that the
        request could have been shown; NaN when no tier of these is known. ``hr10``, ``mrr10``: a click in the first ten.
        An empty page is worth 0.
        """
        shown = list(shown[:K])
        labelled = self.world.labelled(request)
        if not shown:
            nothing = dict.fromkeys(PAGE_METRICS, 0.0)
            return nothing if labelled else nothing | {"ndcg10": float("nan")}, Outcome((), (), ())
        outcome = self.world.feedback(request, shown)
        clicked, ordered = {c.item for c in outcome.clicks}, {o.item for o in outcome.orders}
        tier_k = self.world.tiers(request.query, shown)
        click_1k = np.array([[item in clicked for item in shown]])
        order_k = np.array([item in ordered for item in shown])
        ctr_k = self.world.click_probability(request, shown)
        values = (
            float(item_reward(tier_k, ctr_k, click_1k[0], order_k, JUDGING).mean()),
            float(len(outcome.clicks)),
            float(len(outcome.orders)),
            float(ndcg(_gain(tier_k)[None], _gain(self.possible(request))[None], K)[0]) if labelled else float("nan"),
            float(hit_rate(click_1k, K)[0]),
            float(reciprocal_rank(click_1k, K)[0]),
        )
        return dict(zip(PAGE_METRICS, values, strict=True)), outcome

    def possible(self, request: Request) -> NDArray[np.int8]:
        """True tiers of everything the request may show."""
        if request.candidates:
            return self.world.tiers(request.query, request.candidates)
        catalogue = self.world.catalogue
        if request.query not in self._tiers:
            self._tiers[request.query] = self.world.tiers(request.query, catalogue.items)
        return self._tiers[request.query][catalogue.available_from_N <= request.ts]


def _gain(tier: NDArray[np.int8]) -> NDArray[np.float64]:
    gain: NDArray[np.float64] = 2.0 ** tier.astype(np.float64) - 1.0
    return gain
