"""Campaigns: which are in force, what they make of each item, against a slow oracle that asks them one by one."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.force import in_force, precedence
from reward.campaigns.weighing import DAY_MS, NAMES, Weighing
from reward.composite import item_reward
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.catalogue import Catalogue
from schemas.weights import RewardWeights

CATEGORIES, BRANDS = ("shoes", "bags", "hats"), ("ava", "bo", "")
QUERIES, SEGMENTS, MARKETS = ("red shoes", "bag"), ("new", "loyal"), ("north", "south")
NOW = 100 * DAY_MS
#: Items: every category with every brand; margins and ages vary, one margin is not known.
CATALOGUE = Catalogue(
    items=tuple(f"i{n}" for n in range(9)),
    titles=("",) * 9,
    categories=tuple(CATEGORIES[n % 3] for n in range(9)),
    brands=tuple(BRANDS[n // 3] for n in range(9)),
    prices_N=np.ones(9, dtype=np.float32),
    available_from_N=np.array([0, NOW, NOW - DAY_MS, NOW - 2 * DAY_MS, 0, NOW + 5, NOW - 14 * DAY_MS, 0, 1], np.int64),
    attributes=({},) * 9,
    margins_N=np.array([0, 0.25, 0.5, 0.75, 1, np.nan, 0.5, 0.5, 0.125], dtype=np.float32),
)
FACTS, ROWS = ItemFacts.of(CATALOGUE), np.arange(9)


def some(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from((*names, "elsewhere")), max_size=2, unique=True).map(tuple)


weight = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 7.0]))
factor = st.sampled_from([0.5, 1.0, 1.25, 2.0])
time = st.sampled_from([0, NOW - DAY_MS, NOW, NOW + 1])
campaigns = st.lists(
    st.builds(
        Campaign,
        id=st.sampled_from("abcdef"),
        revision=st.just(1),
        name=st.just("n"),
        owner=st.just("o"),
        scope=st.builds(
            Scope,
            some(CATEGORIES),
            some([*BRANDS[:2]]),
            some(QUERIES),
            some(SEGMENTS),
            some(MARKETS),  # type: ignore[arg-type]
        ),
        starts_ms=time,
        ends_ms=time,
        priority=st.sampled_from([0, 100, 1000]),
        relevance=weight,
        ctr=weight,
        click=weight,
        order=weight,
        multipliers=st.builds(
            Multipliers,
            margin=factor,
            new_items=factor,
            new_days=st.sampled_from([0.5, 1.0, 14.0]),
            brands=st.dictionaries(st.sampled_from(["ava", "bo", "nobody"]), factor, max_size=2),
        ),
    ),
    max_size=5,
    unique_by=lambda c: c.id,
)
asked = st.builds(
    Asked, st.sampled_from((*QUERIES, "other")), st.sampled_from((*SEGMENTS, "")), st.sampled_from((*MARKETS, ""))
)


def winners_first(book: RewardWeights, request: Asked, item: int, at_ms: int) -> list[Campaign]:
    """Campaigns that apply to one item, by the rule as it is written: priority, named parts, later start, id."""

    def applies(c: Campaign) -> bool:
        s = c.scope
        return (
            c.starts_ms <= at_ms
            and (not c.ends_ms or at_ms < c.ends_ms)
            and all(
                not names or value in names
                for names, value in (
                    (s.categories, CATALOGUE.categories[item]),
                    (s.brands, CATALOGUE.brands[item]),
                    (s.queries, request.query),
                    (s.segments, request.segment),
                    (s.markets, request.market),
                )
            )
        )

    def beats(a: Campaign, b: Campaign) -> bool:
        parts_a, parts_b = (sum(1 for names in msgspec.structs.astuple(c.scope) if names) for c in (a, b))
        for mine, other in ((a.priority, b.priority), (parts_a, parts_b), (a.starts_ms, b.starts_ms)):
            if mine != other:
                return mine > other
        return a.id < b.id

    found: list[Campaign] = []
    for campaign in filter(applies, book.campaigns):
        place = next((n for n, other in enumerate(found) if beats(campaign, other)), len(found))
        found.insert(place, campaign)
    return found


def slow(book: RewardWeights, request: Asked, item: int, at_ms: int) -> list[float]:
    """Relevance, ctr, click, order, multiplier of one item."""
    first = winners_first(book, request, item, at_ms)
    weights = [next((v for c in first if (v := getattr(c, name)) is not None), getattr(book, name)) for name in NAMES]
    margin = next((c.multipliers.margin for c in first if c.multipliers.margin != 1), 1.0)
    known = float(np.nan_to_num(CATALOGUE.margins_N[item]))  # type: ignore[index]
    fresh = next((c.multipliers for c in first if c.multipliers.new_items != 1), Multipliers())
    since = int(CATALOGUE.available_from_N[item])
    is_new = since > 0 and at_ms < since + fresh.new_days * DAY_MS
    brand = next(
        (c.multipliers.brands[CATALOGUE.brands[item]] for c in first if CATALOGUE.brands[item] in c.multipliers.brands), 1.0
    )
    return [*weights, (1 + (margin - 1) * known) * (fresh.new_items if is_new else 1.0) * brand]


@given(campaigns, asked, time, st.permutations(range(9)))
def test_every_item_gets_what_the_rule_says(decided: list[Campaign], request: Asked, at_ms: int, rows: list[int]) -> None:
    """Whatever campaigns meet: weights, multiplier and explanation are those of asking one campaign after the other."""
    book = RewardWeights(ctr=0.25, campaigns=tuple(decided))
    weighing, rows = Weighing(book, FACTS), rows[:6]
    got = weighing.of(request, np.array(rows), at_ms)
    columns = np.array([np.broadcast_to(getattr(got, name), 6) for name in (*NAMES, "multiplier")]).T
    np.testing.assert_allclose(columns, [slow(book, request, row, at_ms) for row in rows], rtol=1e-15)
    meeting = {c.id for row in rows for c in winners_first(book, request, row, at_ms)}
    ranked = [c.id for c in sorted(decided, key=precedence) if c.id in meeting]
    assert list(weighing.explain(request, np.array(rows), at_ms)) == ranked


@given(campaigns, asked, time)
def test_what_is_in_force_means_the_same_whenever_it_is_read_again(
    decided: list[Campaign], request: Asked, at_ms: int
) -> None:
    """Cut to a moment, the book needs no clock: its campaigns run at any time as they did then, and cutting again is idle."""
    book = RewardWeights(campaigns=tuple(decided), before=RewardWeights(version=0))
    now = in_force(book, at_ms)
    assert now.before is None and in_force(now, 4 * NOW) == now
    assert {c.id for c in now.campaigns} == {c.id for c in decided if c.runs(at_ms)}
    was, again = (Weighing(b, FACTS).of(request, ROWS, at_ms) for b in (book, now))
    for name in (*NAMES, "multiplier"):
        np.testing.assert_array_equal(getattr(was, name), getattr(again, name))


def made(id: str, **changes: object) -> Campaign:
    return Campaign(id, 1, id, "me", **changes)  # type: ignore[arg-type]


def test_precedence_by_hand() -> None:
    """Priority before narrowness before start before id; nothing is hidden that the winner does not set."""
    wide, narrow = made("wide", relevance=2, click=5), made("narrow", scope=Scope(categories=("shoes",)), relevance=3)
    late, high = made("late", starts_ms=1, ctr=4), made("high", priority=101, order=9, relevance=0.5)
    order = sorted([wide, narrow, late, high, made("a", click=1)], key=precedence)
    assert [c.id for c in order] == ["high", "narrow", "late", "a", "wide"]
    found = Weighing(RewardWeights(campaigns=(wide, narrow, late)), FACTS).of(Asked("q"), np.array([0, 1]), 1)
    assert np.broadcast_to(found.relevance, 2).tolist() == [3, 2]  # i0 is a shoe, i1 a bag
    assert np.broadcast_to(found.click, 2).tolist() == [5, 5] and np.broadcast_to(found.ctr, 2).tolist() == [4, 4]


def test_the_multiplier_by_hand() -> None:
    """Margin 2 on an item of margin .5: 1.5; new for a day at a factor of 2; brand ava .5: 1.5 * 2 * .5 = 1.5. The reward of
    tier 3, CTR .1, with a click is 1.5 * (3 + .1 + 3) = 9.15."""
    lean = made("lean", multipliers=Multipliers(margin=2, new_items=2, new_days=1.5, brands={"ava": 0.5}))
    weighing = Weighing(RewardWeights(campaigns=(lean,)), FACTS)
    found = weighing.of(Asked("q"), np.array([2]), NOW)  # of ava, a day old
    assert float(np.asarray(found.multiplier)[0]) == pytest.approx(1.5)
    assert item_reward([3], [0.1], [1], [0], found).tolist() == pytest.approx([9.15])
    later = weighing.of(Asked("q"), np.array([2]), NOW + DAY_MS)
    assert float(np.asarray(later.multiplier)[0]) == pytest.approx(0.75)


def test_without_a_campaign_that_applies_the_defaults_are_one_set() -> None:
    """No arrays are made where there is nothing to tell apart."""
    book = RewardWeights(campaigns=(made("later", starts_ms=5, ctr=2), made("loyal", scope=Scope(segments=("loyal",)))))
    weighing = Weighing(book, FACTS)
    assert weighing.of(Asked("q", "new"), ROWS, 4) is book
    assert weighing.of(Asked("q", "loyal"), ROWS, 4) is not book
    assert weighing.explain(Asked("q"), ROWS, 4) == ()


def test_item_facts_tell_items_by_category_and_brand() -> None:
    """Both must hold; an unknown name meets nothing; nothing named meets all; an unknown margin is none."""
    assert FACTS.among(("shoes", "hats"), ("bo",)).tolist() == [n in (3, 5) for n in range(9)]
    assert not FACTS.among(("socks",), ()).any() and FACTS.among((), ()).all()
    assert FACTS.among((), ("",)).tolist() == [n > 5 for n in range(9)]
    assert FACTS.margin_N[5] == 0 and FACTS.margin_N[3] == 0.75
    assert not ItemFacts.of(dataclasses.replace(CATALOGUE, margins_N=None)).margin_N.any()
