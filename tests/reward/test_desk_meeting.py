"""Who meets whom and who wins, against a slow oracle that walks every time, request and item of a small world."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.force import precedence
from reward.campaigns.weighing import NAMES, Weighing
from reward.desk.meeting import effective, overlaps
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.decisions import Overlap
from schemas.weights import RewardWeights
from tests.reward.desk_toys import ITEMS, facts

FACTS: ItemFacts = facts()
TIMES = range(9)
QUERIES, SEGMENTS, MARKETS = ("red", "blue", "other"), ("vip", "none"), ("de", "none")


def some(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)


@st.composite
def books(draw: st.DrawFn) -> RewardWeights:
    """Up to four campaigns in a world small enough to walk."""
    made = []
    for n in range(draw(st.integers(0, 4))):
        scope = Scope(
            draw(some(("shoes", "kitchen", "tools"))), draw(some(("Tessaro", "Velkin", "Ombra"))), draw(some(QUERIES[:2])),
            draw(some(SEGMENTS[:1])), draw(some(MARKETS[:1])),
        )  # fmt: skip
        starts = draw(st.integers(0, 5))
        ends = draw(st.sampled_from((0, starts + 1, starts + 3)))
        weights = {name: draw(st.sampled_from((None, 2.0, 5.0))) for name in NAMES}
        lean = Multipliers(margin=draw(st.sampled_from((1.0, 1.5))), brands=draw(st.sampled_from(({}, {"Velkin": 0.5}))))
        made.append(
            Campaign(f"c{n}", 1, "c", "o", scope, starts, ends, "UTC", draw(st.integers(0, 2)), **weights, multipliers=lean)
        )
    return RewardWeights(campaigns=tuple(made))


def holds(campaign: Campaign, at: int, query: str, segment: str, market: str, item: int) -> bool:
    scope, (category, brand) = campaign.scope, ITEMS[item]
    pairs = (
        (scope.queries, query),
        (scope.segments, segment),
        (scope.markets, market),
        (scope.categories, category),
        (scope.brands, brand),
    )
    return campaign.runs(at) and all(not names or value in names for names, value in pairs)


WORLD = tuple(product(TIMES, QUERIES, SEGMENTS, MARKETS, range(len(ITEMS))))


@given(books(), st.integers(0, 6))
def test_overlaps_are_what_a_walk_through_the_world_finds(book: RewardWeights, now: int) -> None:
    """Two meet when somewhere from now on both hold; the items are those of both scopes; the first by the rule wins."""
    found = {frozenset((o.first, o.second)): o for o in overlaps(book, FACTS, now)}
    for a, b in combinations(sorted(book.campaigns, key=precedence), 2):
        points = [p for p in WORLD if p[0] >= now and holds(a, *p) and holds(b, *p)]
        one = found.pop(frozenset((a.id, b.id)), None)
        assert (one is None) == (not points)
        if one is not None:
            both = {name for name in NAMES if getattr(a, name) is not None and getattr(b, name) is not None}
            assert (one.first, one.items) == (a.id, len({p[4] for p in points}))
            assert {name for name in one.wins if name in NAMES} == both and set(one.wins.values()) <= {a.id}
    assert not found


@pytest.mark.slow
@given(books(), st.integers(0, 6))
def test_what_holds_somewhere_is_what_the_weighing_says_there(book: RewardWeights, now: int) -> None:
    """From now on: every point's weights are those of the set of campaigns that hold there, and its multiplier lies in their bounds."""
    known, weighing, seen = effective(book, FACTS, now), Weighing(book, FACTS), {()}
    order = sorted(book.campaigns, key=precedence)
    for at, query, segment, market in product(TIMES[now:], QUERIES, SEGMENTS, MARKETS):
        got = weighing.of(Asked(query, segment, market), np.arange(len(ITEMS)), at)
        for item in range(len(ITEMS)):
            ids = tuple(c.id for c in order if holds(c, at, query, segment, market, item))
            values = [float(np.broadcast_to(getattr(got, name), len(ITEMS))[item]) for name in (*NAMES, "multiplier")]
            here = known[ids]
            assert values[:4] == list(here[:4])
            assert here.low - 1e-9 <= values[4] <= here.high + 1e-9
            seen.add(ids)
    assert set(known) == seen


def test_the_winner_is_told_for_each_weight() -> None:
    """Higher priority wins order; relevance is set by one alone; the other's click stays."""
    a = Campaign("a", 1, "a", "o", Scope(categories=("shoes",)), priority=200, order=8.0)
    b = Campaign("b", 1, "b", "o", Scope(brands=("Tessaro",)), order=6.0, click=5.0)
    assert overlaps(RewardWeights(campaigns=(a, b)), FACTS) == (Overlap("a", "b", 2, {"order": "a"}),)
    assert overlaps(RewardWeights(campaigns=(a, b)), FACTS, about="c") == ()
