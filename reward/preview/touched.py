"""What of the stored pages a draft touches, and what of its effect they cannot tell.

Letters: M pages, P shown items, L pages with a pool, X candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from reward.campaigns.weighing import NAMES, ItemWeights, Weighing
from reward.preview.pages import Bools, Floats, Ints, Pages
from reward.preview.pools import Pools
from reward.preview.results import Touched
from schemas.weights import RewardWeights

#: Weights that no serving score has: an item's click or order is known after it was shown.
LEARNED: Final = ("click", "order")
THROUGH_LEARNING: Final = (
    "acts through learning: weights of clicks and orders change what the learner is rewarded for and not how found items are "
    "ordered, so stored pages cannot tell what they bring"
)


def touched(pages: Pages, pools: Pools | None, before: Weighing, after: Weighing) -> Touched:
    """Pages on which the two books give a shown item, or a candidate of the page's pool, other weights."""
    both = [book.of_pages(pages.asked, pages.ts_M, pages.page_P, pages.row_P) for book in (before, after)]
    shown_P = differ(both[0], both[1], (*NAMES, "multiplier"), len(pages.row_P))
    learned_P = differ(both[0], both[1], LEARNED, len(pages.row_P))
    pooled = None
    if pools is not None:
        both = [book.of_pages(pools.asked, pools.ts_L, pools.owner_X, pools.row_X) for book in (before, after)]
        pooled = owners_of(differ(both[0], both[1], (*NAMES, "multiplier"), len(pools.row_X)), pools.owner_X, len(pools))
    return Touched(owners_of(shown_P, pages.page_P, len(pages)), pooled, owners_of(learned_P, pages.page_P, len(pages)))


def not_estimated(found: Touched, scores: Sequence[Floats], unmet: str, same: bool) -> str:
    """Why the pages tell nothing of clicks, orders and revenue; empty: they do, or there are no pools to tell anything.

    ``unmet`` is why no shown item is touched (`reward.preview.unmet`). Of a draft that is the ``same`` as today's book they
    tell that nothing changes.
    """
    if same or not scores or not np.array_equal(scores[0], scores[1]):
        return ""
    return THROUGH_LEARNING if found.pages or found.pools else unmet


def pooled_alone(found: Touched, pages: int) -> str:
    """That pools alone are touched, as a sentence."""
    return f"0 of {pages:,} pages show an item that this change touches; candidates of {found.pools:,} pages' pools it does"


def differ(one: ItemWeights | RewardWeights, other: ItemWeights | RewardWeights, names: Sequence[str], size: int) -> Bools:
    """Which of ``size`` items have another value of any of these."""
    differs = np.zeros(size, np.bool_)
    for name in names:
        differs |= np.asarray(getattr(one, name)) != np.asarray(getattr(other, name))
    return differs


def owners_of(here: Bools, owner: Ints, owners: int) -> int:
    """How many owners have one."""
    return int((np.bincount(owner[here], minlength=owners) > 0).sum())
