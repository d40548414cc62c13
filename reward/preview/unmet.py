"""Why a draft touches none of the stored pages.

Letters: P shown items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from reward.campaigns.facts import ItemFacts
from reward.campaigns.force import RULE, in_force
from reward.campaigns.weighing import NAMES, Weighing
from reward.preview.pages import Bools, Pages
from reward.preview.touched import differ, owners_of, touched
from schemas.campaigns import Campaign
from schemas.decisions import Overlap
from schemas.weights import RewardWeights

#: Campaigns that a sentence names.
MOST: Final = 3


def none_met(
    pages: Pages, current: RewardWeights, draft: RewardWeights, at_ms: int, overlaps: Sequence[Overlap], facts: ItemFacts
) -> str:
    """One sentence: nothing shown is in its scope, or others win wherever it is, or it gives nothing there another weight.

    The last two are told apart by both books without those who win: does the draft change a page then?

    Args:
        overlaps: of the campaigns that the draft adds or changes.
        facts: of the catalogue, with a blank row.
    """
    everything = any(getattr(current, name) != getattr(draft, name) for name in NAMES)
    changed = {
        c.id for one, other in ((current, draft), (draft, current)) for c in one.campaigns if c not in other.campaigns
    }
    inside_P = np.full(len(pages.row_P), everything)
    for campaign in (*current.campaigns, *draft.campaigns):
        if campaign.id in changed and campaign.runs(at_ms):
            inside_P |= _inside(campaign, pages, facts)
    count, told = owners_of(inside_P, pages.page_P, len(pages)), f"0 of {len(pages):,} pages"
    if not count:
        return f"{told} meet this change: none has its query, segment or market together with an item in its scope"
    winners = [
        campaign.id
        for campaign in draft.campaigns
        if campaign.id not in changed
        and campaign.runs(at_ms)
        and (everything or any(o.first == campaign.id and o.second in changed and o.wins for o in overlaps))
        and (_inside(campaign, pages, facts) & inside_P).any()
    ]
    freed = (Weighing(in_force(_without(book, winners), at_ms), facts) for book in (current, draft))
    told = f"{told} change: {count:,} show an item in its scope, but"
    if not touched(pages, None, *freed).pages:
        return f"{told} it gives those no other weight or multiplier than they have"
    why = "campaigns lie over the defaults" if everything else f"by {RULE}"
    return f"{told} {', '.join(_named(winners))} {'wins' if len(winners) == 1 else 'win'} there ({why})"


def _inside(campaign: Campaign, pages: Pages, facts: ItemFacts) -> Bools:
    """Which shown items [P] are in its scope, whenever it runs: those that a weight of its own would reach."""
    mark = Campaign(campaign.id, campaign.revision, campaign.name, campaign.owner, campaign.scope, relevance=1.0)
    book = Weighing(RewardWeights(relevance=0.0, campaigns=(mark,)), facts)
    found = book.of_pages(pages.asked, pages.ts_M, pages.page_P, pages.row_P)
    return differ(found, RewardWeights(relevance=0.0), ("relevance",), len(pages.row_P))


def _without(book: RewardWeights, ids: Sequence[str]) -> RewardWeights:
    return msgspec.structs.replace(book, campaigns=tuple(c for c in book.campaigns if c.id not in ids))


def _named(ids: Sequence[str]) -> Iterator[str]:
    yield from (f'"{one}"' for one in ids[:MOST])
    if len(ids) > MOST:
        yield f"{len(ids) - MOST} more"
