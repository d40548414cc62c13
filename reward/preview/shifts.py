"""How item rewards, and the order that they give each page, change from one book to another.

Letters: M pages, P shown items, K places of the longest page.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reward.campaigns.weighing import Weighing
from reward.composite import TERMS, learned_terms, term_shares
from reward.examination import Examination
from reward.preview.pages import Floats, Pages
from reward.preview.results import ItemRewards, Ranking

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS: Final = 20
#: Two rewards are the same when they differ by rounding alone.
ROUNDING: Final = 1e-12


def reward_terms(pages: Pages, weighing: Weighing, examination: Examination | None) -> Floats:
    """Weighted terms [P, 3] of the shown items, as the learner scores them (`trainers.rewards.RewardModel`).

    ``examination`` is of the snapshot that the pages' rates are of (`reward.preview.rates.Rates`); None: clicks as observed.
    """
    weights = weighing.of_pages(pages.asked, pages.ts_M, pages.page_P, pages.row_P)
    facts_P = (pages.tier_P, pages.ctr_P, pages.clicks_P, pages.orders_P, pages.position_P)
    return learned_terms(*facts_P, weights, examination)


def shares_of(pages: Pages, terms_P3: Floats) -> dict[str, float]:
    """Each term's share of the variance within pages (`reward.composite.term_shares`).

    A short page is filled up with its own means, which adds nothing to any sum of squares.
    """
    columns = []
    for t in range(len(TERMS)):
        mean_M = np.bincount(pages.page_P, terms_P3[:, t], len(pages)) / pages.size_M
        grid_MK = pages.grid(terms_P3[:, t], np.nan)
        columns.append(np.where(np.isnan(grid_MK), mean_M[:, None], grid_MK))
    return term_shares(np.stack(columns, axis=-1))


def item_rewards(before_P: Floats, after_P: Floats) -> ItemRewards:
    """Means, and the distribution of the difference."""
    change_P = after_P - before_P
    counts, edges = np.histogram(change_P, BINS)
    spread = dict(zip((f"q{100 * q:02.0f}" for q in QUANTILES), np.quantile(change_P, QUANTILES).tolist(), strict=True))
    return ItemRewards(
        items=len(change_P),
        before=float(before_P.mean()),
        after=float(after_P.mean()),
        changed=float((np.abs(change_P) > ROUNDING * np.maximum(1.0, np.abs(before_P))).mean()),
        change={"mean": float(change_P.mean()), **spread},
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def ranking(pages: Pages, before_P: Floats, after_P: Floats) -> Ranking:
    """How each page's items, ranked by reward, change their order."""
    several_M = pages.size_M > 1
    before_MK, after_MK = pages.grid(before_P, np.nan)[several_M], pages.grid(after_P, np.nan)[several_M]
    if not len(before_MK):
        return Ranking(0, 0.0, 0.0, None)
    both, pairs_before, pairs_after = (np.zeros(len(before_MK)) for _ in range(3))
    changed = np.zeros(len(before_MK), np.bool_)
    for gap in range(1, before_MK.shape[1]):  # pairs of places this far apart, on all pages at once
        a = np.nan_to_num(np.sign(before_MK[:, gap:] - before_MK[:, :-gap]))
        b = np.nan_to_num(np.sign(after_MK[:, gap:] - after_MK[:, :-gap]))
        both += (a * b).sum(axis=1)
        pairs_before += np.abs(a).sum(axis=1)
        pairs_after += np.abs(b).sum(axis=1)
        changed |= (a != b).any(axis=1)
    defined = (pairs_before > 0) & (pairs_after > 0)
    tau = both[defined] / np.sqrt(pairs_before[defined] * pairs_after[defined])
    top = np.nanargmax(before_MK, axis=1) != np.nanargmax(after_MK, axis=1)
    return Ranking(
        pages=len(before_MK),
        changed=float(changed.mean()),
        top_changed=float(top.mean()),
        tau=float(tau.mean()) if len(tau) else None,
    )
