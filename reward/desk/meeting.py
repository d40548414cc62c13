"""Which campaigns meet: at some time, for some request, on some item; and who wins there.

A set of campaigns is an integer, bit n standing for the n-th in order of precedence. Each dimension (time, query,
segment, market, item) says which sets hold together at one of its points; what really meets is an intersection with one set of each.
So few sets stay that all of them can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import Bools, ItemFacts
from reward.campaigns.force import precedence
from reward.campaigns.weighing import NAMES
from schemas.campaigns import Campaign
from schemas.decisions import Overlap
from schemas.weights import RewardWeights


class Effective(NamedTuple):
    """What holds where a set of campaigns meets; ``low`` and ``high`` bound the multiplier of an item there."""

    relevance: float
    ctr: float
    click: float
    order: float
    low: float
    high: float


def overlaps(book: RewardWeights, facts: ItemFacts, now_ms: int = 0, about: str = "") -> tuple[Overlap, ...]:
    """Every two campaigns that meet from ``now_ms`` on (``about``: only those of this one), and who wins what."""
    campaigns = sorted(book.campaigns, key=precedence)
    masks = [_mask(c, facts) for c in campaigns]
    met = {pair for stack in stacks(campaigns, masks, now_ms) for pair in combinations(_bits(stack), 2)}
    return tuple(
        Overlap(a.id, b.id, int((masks[n] & masks[m]).sum()), dict.fromkeys(_sets(a) & _sets(b), a.id))
        for n, m in sorted(met)
        for a, b in [(campaigns[n], campaigns[m])]
        if about in ("", a.id, b.id)
    )


def effective(book: RewardWeights, facts: ItemFacts | None, now_ms: int = 0) -> dict[tuple[str, ...], Effective]:
    """What holds wherever campaigns meet from ``now_ms`` on, by their ids in order of precedence; ``()``: the defaults alone.
    ``facts`` is None for books without campaigns.
    """
    campaigns = sorted(book.campaigns, key=precedence)
    found: dict[tuple[str, ...], Effective] = {(): _over(book, ())}
    if facts is None:
        return found
    for stack in sorted(stacks(campaigns, [_mask(c, facts) for c in campaigns], now_ms)):
        chosen = [campaigns[n] for n in _bits(stack)]
        found[tuple(c.id for c in chosen)] = _over(book, chosen)
    return found


def stacks(campaigns: Sequence[Campaign], masks: Sequence[Bools], now_ms: int) -> set[int]:
    """Every set of campaigns that meets at some point from ``now_ms`` on; ``masks`` [C] of bool [N] are their items.

    What holds together changes at a start and at an end, at which a campaign no longer runs: these instants and now are all.
    """
    if not campaigns:
        return {0}
    moments = {now_ms} | {at for c in campaigns for at in (c.starts_ms, c.ends_ms) if at > now_ms}
    found = {_together(c.runs(at) for c in campaigns) for at in moments}
    for dimension in ("queries", "segments", "markets"):
        limits = [frozenset(getattr(c.scope, dimension)) for c in campaigns]
        values: set[str | None] = {None}.union(*limits)  # None: what nobody names
        sets = {_together(not limit or value in limit for limit in limits) for value in values}
        found = {a & b for a in found for b in sets}
    items = _of_items(masks)
    return {a & b for a in found for b in items}


def _of_items(masks: Sequence[Bools]) -> set[int]:
    packed: NDArray[np.uint8] = np.packbits(np.stack(masks), axis=0, bitorder="little")
    return {int.from_bytes(column.tobytes(), "little") for column in np.unique(packed, axis=1).T}


def _mask(campaign: Campaign, facts: ItemFacts) -> Bools:
    return facts.among(campaign.scope.categories, campaign.scope.brands)


def _together(holds: Iterable[bool]) -> int:
    return sum(1 << n for n, held in enumerate(holds) if held)


def _bits(stack: int) -> Iterator[int]:
    return (n for n in range(stack.bit_length()) if stack >> n & 1)


def _sets(campaign: Campaign) -> set[str]:
    """Weights and multipliers that it sets."""
    lean = campaign.multipliers
    found = {name for name in NAMES if getattr(campaign, name) is not None}
    found |= {name for name in ("margin", "new_items") if getattr(lean, name) != 1}
    return found | {f"brand {brand}" for brand in lean.brands}


def _over(book: RewardWeights, campaigns: Sequence[Campaign]) -> Effective:
    """The first campaign that sets something wins it; what none sets is the defaults'."""
    weights = {name: getattr(book, name) for name in NAMES}
    factors: dict[str, float] = {}
    brands: dict[str, float] = {}
    for campaign in reversed(campaigns):
        lean = campaign.multipliers
        weights |= {name: value for name in NAMES if (value := getattr(campaign, name)) is not None}
        factors |= {name: value for name in ("margin", "new_items") if (value := getattr(lean, name)) != 1}
        brands |= lean.brands
    ends = [(min(1.0, f), max(1.0, f)) for f in factors.values()]
    ends.append((min(1.0, *brands.values(), 1.0), max(1.0, *brands.values(), 1.0)))
    return Effective(
        **weights, low=float(np.prod([low for low, _ in ends])), high=float(np.prod([high for _, high in ends]))
    )
