"""A preview by hand, its invariances, and what it says when something is missing."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.weighing import Weighing
from reward.examination import start
from reward.preview.pages import Pages
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.preview.results import Preview, Touched
from reward.settings import PreviewSettings, RewardSettings
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.errors import InvalidRequest
from schemas.weights import RewardWeights
from tests.reward import preview_toys
from tests.reward.preview_toys import DAY_MS, NOW_MS, Toys

TODAY, EVERYTHING = RewardWeights(), Scope()
#: Each example is a preview: fewer of them.
few = settings(max_examples=30)
SETTINGS = RewardSettings(preview=PreviewSettings(repeats=100))


def campaign(id: str = "sale", scope: Scope = EVERYTHING, **changes: Any) -> Campaign:
    return Campaign(id, 1, id, "ann", scope, **changes)


def book(*campaigns: Campaign, **changes: Any) -> RewardWeights:
    return RewardWeights(campaigns=campaigns, **changes)


def run(toys: Toys, draft: RewardWeights, current: RewardWeights = TODAY, at_ms: int = NOW_MS, **options: Any) -> Preview:
    examination = options.get("examination", start(SETTINGS.posterior))
    rates = Rates(0, None, examination)
    return preview(toys.examples, toys.pools, current, draft, toys.row, toys.facts, SETTINGS, at_ms, rates)


def page(toys: Toys, n: int, *facts: tuple[str, int, float, int, int]) -> Any:
    """Example ``n`` with these (item, tier, ctr, clicks, orders) in place of its own."""
    kind = type(toys.examples[0].items[0])
    items = tuple(
        kind(item, k, 1.0, tier, 1.0, ctr, 0.0, clicks, orders, 0.0)
        for k, (item, tier, ctr, clicks, orders) in enumerate(facts, 1)
    )
    return msgspec.structs.replace(toys.examples[n], items=items)


def test_item_rewards_and_rankings_by_hand() -> None:
    """Observed clicks, unit weights. Page 1: tiers 3, 1 with a click on the second: 3.1, 1.2 + 3 = 4.2. Page 2: 2.1, 0.2.
    With relevance 2: 6.1, 5.2 and 4.1, 0.2: page 1 turns round, tau -1 and 1, so 0; the mean rises by (3 + 1 + 2 + 0) / 4."""
    toys = preview_toys.make(2, shown=2)
    toys.examples[:] = [
        page(toys, 0, ("i0", 3, 0.1, 0, 0), ("i1", 1, 0.2, 2, 0)), page(toys, 1, ("i2", 2, 0.1, 0, 0), ("i3", 0, 0.2, 0, 0)),
    ]  # fmt: skip
    toys.pools.clear()
    found = run(toys, book(relevance=2.0), examination=None)
    assert (found.rewards.before, found.rewards.after) == pytest.approx((9.6 / 4, 15.6 / 4))
    assert found.rewards.changed == 0.75 and found.rewards.change["mean"] == pytest.approx(1.5)
    assert (found.rewards.change["q00"], found.rewards.change["q100"]) == pytest.approx((0, 3))
    assert sum(found.rewards.counts) == 4 and len(found.rewards.edges) == len(found.rewards.counts) + 1
    assert (found.ranking.pages, found.ranking.changed, found.ranking.top_changed) == (2, 0.5, 0.5)
    assert found.ranking.tau == pytest.approx(0)
    # Categories in turn: i0 and i3 lamps, i1 rugs, i2 mugs. Lamps had 3.3 of 9.6 and have 6.3 of 15.6; rugs 4.2 and 5.2.
    (lamps, mugs), (rugs,) = found.categories.gaining, found.categories.losing
    assert (lamps.name, lamps.items, lamps.pages, lamps.places_before) == ("lamps", 2, 2, None)
    assert (lamps.gain, mugs.gain) == pytest.approx((6.3 / 15.6 - 3.3 / 9.6, 4.1 / 15.6 - 2.1 / 9.6))
    assert (rugs.name, rugs.before, rugs.after) == pytest.approx(("rugs", 4.2, 5.2))
    assert found.places is None and found.expected == () and found.support.without_pool == 2
    assert any("no page can be used" in warning for warning in found.warnings)


def test_shares_of_variance_are_of_pages_of_any_length() -> None:
    """Pages of one, two and three items: each term's covariance with the sum over the sum's variance, page by page."""
    toys = preview_toys.make(30, shown=(1, 2, 3))
    found = run(toys, book(ctr=30.0))
    over = np.zeros(3)
    for e in toys.examples:
        rows = []
        for item in e.items:
            theta = item.position**-0.85
            clicked = 1.0 if item.clicks else item.ctr * (1 - theta) / (1 - theta * item.ctr)
            rows.append([item.tier, 30 * item.ctr, 4.0 if item.orders else 3 * clicked])
        centred = np.array(rows) - np.mean(rows, axis=0)
        over += (centred * centred.sum(axis=1, keepdims=True)).sum(axis=0)
    assert list(found.term_shares_after.values()) == pytest.approx((over / over.sum()).tolist())
    assert sum(found.term_shares_before.values()) == pytest.approx(1)


@given(st.integers(0, 10**6))
def test_tau_is_scipys(seed: int) -> None:
    """tau-b, ties included, over pages of several lengths."""
    toys = preview_toys.make(6, seed=seed, shown=(1, 2, 5))
    draft = book(relevance=0.0, ctr=0.0, click=5.0)
    found = run(toys, draft, examination=None)
    said = []
    for e in toys.examples:
        before = [i.tier + i.ctr + (4 if i.orders else 3 * min(i.clicks, 1)) for i in e.items]
        after = [4.0 if i.orders else 5.0 * min(i.clicks, 1) for i in e.items]
        tau = kendalltau(before, after).statistic if len(e.items) > 1 else np.nan
        said += [] if np.isnan(tau) else [tau]
    assert found.ranking.tau == (pytest.approx(np.mean(said)) if said else None)


scopes = st.builds(
    Scope,
    categories=st.sets(st.sampled_from(["lamps", "rugs", "gone"]), max_size=2).map(tuple),
    brands=st.sets(st.sampled_from(["acme"])).map(tuple),
    queries=st.sets(st.sampled_from(["query 1", "query 2"])).map(tuple),
    segments=st.sets(st.sampled_from(["new"])).map(tuple),
    markets=st.sets(st.sampled_from(["north"])).map(tuple),
)
weight = st.none() | st.floats(0, 5)
lean = st.builds(
    Multipliers, margin=st.floats(0.5, 2), new_items=st.floats(0.5, 2), new_days=st.sampled_from([0.5, 14.0]),
    brands=st.dictionaries(st.sampled_from(["acme", "gone"]), st.floats(0.5, 2)),
)  # fmt: skip
campaigns = st.lists(
    st.builds(
        campaign, st.sampled_from(["a", "b", "c"]), scopes, priority=st.integers(0, 2), relevance=weight, ctr=weight, click=weight,
        order=weight, multipliers=lean, starts_ms=st.sampled_from([0, NOW_MS - 5_000]), ends_ms=st.sampled_from([0, NOW_MS]),
    ),
    max_size=3, unique_by=lambda c: c.id,
)  # fmt: skip


@few
@given(campaigns)
def test_weights_of_many_pages_are_those_of_each(found: list[Campaign]) -> None:
    """Page by page, one search at a time."""
    toys = preview_toys.make(12, queries=3)
    pages = Pages.of(toys.examples, toys.row)
    weighing = Weighing(book(*found), toys.facts)
    many = weighing.of_pages(pages.asked, pages.ts_M, pages.page_P, pages.row_P)
    for m, (asked, ts) in enumerate(zip(pages.asked, pages.ts_M.tolist(), strict=True)):
        mine_P = pages.page_P == m
        one = weighing.of(asked, pages.row_P[mine_P], ts)
        for name in ("relevance", "ctr", "click", "order", "multiplier"):
            each = np.broadcast_to(getattr(one, name), mine_P.sum())
            np.testing.assert_array_equal(np.broadcast_to(getattr(many, name), len(mine_P))[mine_P], each)


@few
@given(campaigns, st.randoms(use_true_random=False))
def test_order_and_old_revisions_change_nothing(found: list[Campaign], rng: random.Random) -> None:
    """Shuffled examples and pools, with the first revisions of some pages among them: the same preview to the bit."""
    toys = preview_toys.make(15, queries=4)
    draft = book(*found, relevance=1.2)
    newer = [msgspec.structs.replace(e, revision=2) for e in toys.examples]
    mixed = [*newer, *(page(toys, n, ("i9", 0, 0.5, 1, 1)) for n in range(5))]
    rng.shuffle(mixed)
    shuffled = dict(rng.sample(sorted(toys.pools.items()), len(toys.pools)))
    again = Toys(mixed, shuffled, toys.catalogue)
    assert run(again, draft) == run(toys, draft)


@few
@given(campaigns)
def test_the_book_of_today_as_draft_changes_exactly_nothing(found: list[Campaign]) -> None:
    """Zero everywhere, and ratios of 1 on pages that it ordered: as many effective pages as pages."""
    today = book(*found, relevance=0.5)
    toys = preview_toys.make(25, weights=today, queries=5)
    same = run(toys, msgspec.structs.replace(today, version=2, author="bob"), today)
    assert same.rewards.changed == 0 and set(same.rewards.change.values()) == {0}
    assert (same.ranking.changed, same.ranking.top_changed) == (0, 0)
    assert same.places is not None and (same.places.changed, same.places.kept) == (0, 1)
    assert same.term_shares_before == same.term_shares_after
    assert not any((same.categories.gaining, same.categories.losing, same.by_query.gaining, same.by_query.losing))
    assert all(one.change == 0 for kind in same.expected for one in kind.values.values())
    assert any("nothing that is in force" in warning for warning in same.warnings)
    if same.support.used == 25 and not any(c.starts_ms or c.ends_ms for c in found):
        assert all(kind.effective == pytest.approx(25) and kind.mean_weight == pytest.approx(1) for kind in same.expected)


def test_a_better_top_place_is_seen_and_expected() -> None:
    """Clicks follow the tier: three times the weight on relevance brings more of them, by an interval above zero, and the tiers
    on the page rise; the pages' own mean is what today's book is said to bring."""
    today = RewardWeights(relevance=0.2, ctr=0.2)
    toys = preview_toys.make(3_000, weights=today, queries=300, temperature=4.0)
    found = run(toys, RewardWeights(relevance=0.6, ctr=0.2), today)
    assert found.support.used == 3_000 and found.warnings == ()
    for kind in found.expected:
        assert kind.values["clicks"].before == pytest.approx(kind.values["clicks"].logged)
        for name in ("clicks", "tier"):
            low = kind.values[name].low
            assert low is not None and low > 0, (kind.estimator, name)
    assert found.places is not None and found.places.top_changed > 0.1


def test_pages_that_cannot_be_used_are_counted_by_reason() -> None:
    """No pool; a page sorted without exploration; one that shows a strange item; one whose propensities are another book's."""
    toys = preview_toys.make(12)
    requests = [e.request_id for e in toys.examples]
    del toys.pools[requests[0]]
    toys.pools[requests[1]] = msgspec.structs.replace(toys.pools[requests[1]], temperature=0.0)
    toys.examples[2] = page(toys, 2, ("i999", 1, 0.1, 0, 0))
    item = toys.examples[3].items[0]
    wrong = msgspec.structs.replace(item, propensity=item.propensity * 0.9)
    toys.examples[3] = msgspec.structs.replace(toys.examples[3], items=(wrong, *toys.examples[3].items[1:]))
    tiny = msgspec.structs.replace(toys.examples[4].items[0], propensity=5e-324)
    toys.examples[4] = msgspec.structs.replace(toys.examples[4], items=(tiny, *toys.examples[4].items[1:]))
    found = run(toys, book(relevance=1.1))
    s = found.support
    assert (s.pages, s.without_pool, s.sorted_pages, s.foreign, s.inconsistent, s.clipped, s.used) == (12, 1, 1, 1, 1, 1, 7)
    assert found.unknown_items == 1
    assert len([warning for warning in found.warnings if warning.startswith("1 of 12 pages")]) == 5
    assert any("effective pages of 7" in warning for warning in found.warnings)


def test_pages_of_the_control_share_are_reweighed_to_both_books() -> None:
    """Half of the pages were ordered by the book before: today's book too has ratios that differ from 1 there."""
    before = RewardWeights(version=1)
    today = RewardWeights(version=2, relevance=1.1, before=before)
    ours, control = (
        preview_toys.make(200, weights=today, temperature=6.0),
        preview_toys.make(200, weights=before, seed=1, temperature=6.0),
    )
    kept = [msgspec.structs.replace(e, request_id=f"c{e.request_id}") for e in control.examples]
    pools = ours.pools | {f"c{request}": pool for request, pool in control.pools.items()}
    found = run(Toys([*ours.examples, *kept], pools, ours.catalogue), RewardWeights(relevance=1.3), today)
    assert found.support.used == 400 and found.support.inconsistent == 0
    assert all(200 < kind.effective_before < 400 for kind in found.expected)


def test_a_campaign_counts_from_its_start_and_new_items_are_as_new_as_on_their_page() -> None:
    """Before its start it changes nothing. Every fifth item came a day before now: new for two days, not for half of one."""
    toys = preview_toys.make(40)
    later = campaign(starts_ms=NOW_MS + DAY_MS, multipliers=Multipliers(new_items=2.0, new_days=2.0))
    assert run(toys, book(later)).rewards.changed == 0
    found = run(toys, book(later), at_ms=NOW_MS + DAY_MS)
    fresh = np.mean([int(i.item[1:]) % 5 == 0 for e in toys.examples for i in e.items])
    assert found.rewards.changed == pytest.approx(fresh) and fresh > 0
    brief = msgspec.structs.replace(later, multipliers=Multipliers(new_items=2.0, new_days=0.5))
    assert run(toys, book(brief), at_ms=NOW_MS + DAY_MS).rewards.changed == 0


def test_overlaps_of_what_is_new_name_the_winner() -> None:
    """Lamps against acme's items: both set ctr, a third sets another weight; of equal priority the narrower scope wins."""
    lamps = campaign("lamps", Scope(categories=("lamps",)), ctr=2.0, click=1.0)
    acme = campaign("acme", Scope(categories=("lamps", "rugs"), brands=("acme",)), ctr=3.0)
    other = campaign("other", relevance=2.0)
    elsewhere = campaign("south", Scope(markets=("south",)), ctr=1.0, priority=500)
    north = campaign("north", Scope(markets=("north",)), ctr=1.0, priority=400)
    toys = preview_toys.make(5)
    (one,) = run(toys, book(lamps, acme, other)).overlaps
    assert (one.first, one.second, one.wins) == ("acme", "lamps", {"ctr": "acme"})
    assert one.items == sum(n % 3 == 0 and n % 2 == 0 for n in range(60))
    assert run(toys, book(lamps, acme), book(lamps, acme)).overlaps == ()
    assert [o.first for o in run(toys, book(elsewhere, north, lamps)).overlaps] == ["south", "north"]


def test_without_examples_it_says_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match="click window"):
        preview([], {}, TODAY, TODAY, {}, ItemFacts.of(preview_toys.catalogue(3)), SETTINGS, NOW_MS, Rates(0, None, None))


def test_a_blank_row_belongs_to_no_scope() -> None:
    """What the catalogue does not know: campaigns on categories and brands pass it by, those on all items do not."""
    facts = preview_toys.make(1).facts.with_blank()
    blank = np.array([60])
    of = [Weighing(book(c), facts).of(Asked("q"), blank, NOW_MS) for c in (
        campaign(scope=Scope(categories=("lamps",)), ctr=2.0), campaign(scope=Scope(brands=("acme",)), ctr=2.0),
        campaign(ctr=2.0, multipliers=Multipliers(margin=2.0, new_items=2.0, brands={"acme": 2.0})),
    )]  # fmt: skip
    assert [float(np.broadcast_to(w.ctr, 1)[0]) for w in of] == [1, 1, 2]
    assert float(np.broadcast_to(of[2].multiplier, 1)[0]) == 1


def test_weights_of_clicks_and_orders_are_not_said_to_bring_nothing() -> None:
    """They order nothing that is found: no estimate but the reason; beside a weight that does, a warning. A margin is estimated."""
    toys = preview_toys.make(60)
    alone = run(toys, book(click=5.0, order=8.0))
    assert alone.expected == () and alone.not_estimated.startswith("acts through learning")
    assert alone.touched == Touched(60, 60, 60) and not any("effective" in warning for warning in alone.warnings)
    beside = run(toys, book(order=8.0, relevance=1.1))
    assert beside.expected and beside.not_estimated == ""
    assert any("nothing of what acts through learning" in warning for warning in beside.warnings)
    leaning = run(toys, book(campaign(multipliers=Multipliers(margin=1.5))))
    assert leaning.expected and leaning.touched.learned == 0
