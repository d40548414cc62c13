"""Where campaigns of a draft meet, and which wins there (`reward.campaigns.force`)."""

from __future__ import annotations

from itertools import combinations

from reward.campaigns.facts import Bools, ItemFacts
from reward.campaigns.force import precedence
from reward.preview.results import Overlap
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.weights import RewardWeights

#: What decides, in the order of `precedence`.
RULES = ("higher priority", "narrower scope", "later start", "id")
WEIGHTS = ("relevance", "ctr", "click", "order")


def overlaps(current: RewardWeights, draft: RewardWeights, facts: ItemFacts) -> tuple[Overlap, ...]:
    """Pairs of the draft's campaigns that set the same thing for the same searches and items, one of them new or changed."""
    known = set(map(repr, current.campaigns))
    found = []
    for one, other in combinations(sorted(draft.campaigns, key=precedence), 2):
        if {repr(one), repr(other)} <= known or not _same_time(one, other) or not _same_requests(one.scope, other.scope):
            continue
        about = tuple(name for name in sets(one) if name in sets(other))
        items = int((_items(one, facts) & _items(other, facts)).sum())
        if about and items:
            rule = next(n for n, (a, b) in enumerate(zip(precedence(one), precedence(other), strict=True)) if a != b)
            found.append(Overlap(one.id, other.id, about, RULES[rule], items))
    return tuple(found)


def sets(campaign: Campaign) -> tuple[str, ...]:
    """Weights and multipliers that a campaign sets."""
    weights = [name for name in WEIGHTS if getattr(campaign, name) is not None]
    leaning: Multipliers = campaign.multipliers
    kinds = [name for name in ("margin", "new_items") if getattr(leaning, name) != 1.0]
    return (*weights, *kinds, *(f"brand {name}" for name in sorted(leaning.brands)))


def _items(campaign: Campaign, facts: ItemFacts) -> Bools:
    return facts.among(campaign.scope.categories, campaign.scope.brands)


def _same_time(one: Campaign, other: Campaign) -> bool:
    return (other.ends_ms == 0 or one.starts_ms < other.ends_ms) and (one.ends_ms == 0 or other.starts_ms < one.ends_ms)


def _same_requests(one: Scope, other: Scope) -> bool:
    pairs = ((one.queries, other.queries), (one.segments, other.segments), (one.markets, other.markets))
    return all(not a or not b or set(a) & set(b) for a, b in pairs)
