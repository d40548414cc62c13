"""The expected effect of a draft on what pages bring: which pages can be used, and the estimates from them.

Letters: L pages with a pool, K places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from reward.campaigns.weighing import Weighing
from reward.preview.offpolicy import Estimator, Logged, estimate
from reward.preview.pages import Bools, Floats, Pages
from reward.preview.pools import Pools
from reward.preview.results import Expected, Support
from reward.settings import RewardSettings

#: The first is the one to read; the second assumes less, and needs far more pages.
ESTIMATORS: Final[tuple[Estimator, ...]] = ("sequence", "list")
#: A propensity below it has lost digits: smaller numbers are not exact.
EXACT: Final = float(np.finfo(np.float64).tiny)
#: Log-propensities nearer than this are the same, given what text and arithmetic leave of them.
AGREES: Final = 1e-6


def expected_effect(
    pages: Pages, pools: Pools | None, scores: Sequence[Floats], served: Weighing, reward_P: Floats, settings: RewardSettings
) -> tuple[Support, tuple[Expected, ...]]:
    """Clicks, orders, revenue per page; tier and reward as means over a page's items.

    Args:
        scores: serving scores [X] of the pools' candidates under today's book and the draft.
        served: today's book with its periods, as the server has it.
        reward_P: rewards of the shown items under the draft.
    """
    if pools is None:
        return Support(len(pages), len(pages), 0, 0, 0, 0, 0), ()
    logged_LK = _of_pools(pages, pools, np.log(np.maximum(pages.propensity_P, 5e-324)))
    clipped_L = (_of_pools(pages, pools, (pages.propensity_P < EXACT).astype(np.float64)) > 0).any(axis=1)
    drawn_L = pools.temperature_L > 0
    wrong_L = drawn_L & ~clipped_L & _contradicts(pages, pools, served, logged_LK, settings)
    good_L = drawn_L & ~clipped_L & ~wrong_L
    support = Support(
        pages=len(pages),
        without_pool=len(pages) - len(pools) - pools.foreign,
        sorted_pages=int((~drawn_L).sum()),
        foreign=pools.foreign,
        inconsistent=int(wrong_L.sum()),
        clipped=int((drawn_L & clipped_L).sum()),
        used=int(good_L.sum()),
    )
    if not support.used:
        return support, ()
    used = pools.only(good_L)
    size_P = pages.size_M[pages.page_P].astype(np.float64)
    values = {
        "clicks": np.minimum(pages.clicks_P, 1.0),
        "orders": pages.orders_P,
        "revenue": pages.value_P,
        "tier": pages.tier_P / size_P,
        "reward": reward_P / size_P,
    }
    logged = Logged(
        there_LK=used.shown_LK >= 0,
        query_L=pages.query_M[used.page_L],
        logged_LK=logged_LK[good_L],
        values={name: _of_pools(pages, used, value_P) for name, value_P in values.items()},
    )
    before_LK, after_LK = (used.list_logp(score_X[good_L[pools.owner_X]]) for score_X in scores)
    own = settings.preview
    return support, tuple(estimate(logged, before_LK, after_LK, kind, own.repeats, own.seed) for kind in ESTIMATORS)


def _of_pools(pages: Pages, pools: Pools, values_P: Floats) -> Floats:
    """[L, K]: the values of the pages with a pool, 0 past a page's end."""
    grid_LK: Floats = pages.grid(values_P, 0.0)[pools.page_L]
    return grid_LK[:, : pools.shown_LK.shape[1]]


def _contradicts(pages: Pages, pools: Pools, served: Weighing, logged_LK: Floats, settings: RewardSettings) -> Bools:
    """Whether [L] a page that today's book ordered has other propensities than that book gives its pool."""
    with_draw = pools.temperature_L > 0
    ours_L = (pages.version_M[pools.page_L] == served.weights.version) & with_draw
    wrong_L = np.zeros(len(pools), np.bool_)
    if ours_L.any():
        mine = pools.only(ours_L)
        said_LK = mine.list_logp(mine.scores(served, settings.serving))
        wrong_L[ours_L] = (np.abs(said_LK - logged_LK[ours_L]) > AGREES * (1.0 + np.abs(said_LK))).any(axis=1)
    return wrong_L
