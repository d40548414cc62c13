"""A request's filter: who passes, that all k come back with the catalogue's scores, pins, and why nothing is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.facets import Facets
from reward.snapshot import PosteriorSnapshot
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.events import SUPPORT_FLOOR
from schemas.filters import Filter
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.requests import SearchAnswer, SearchRequest, impression
from serving.settings import EngineSettings
from tests.serving.logged import impressions

Shop = Any  # the fixture's class; conftest files are not importable by name


def engine_over(shop: Shop, catalogue: Catalogue, **settings: Any) -> SearchEngine:
    """The shop's policy over a catalogue of the same items."""
    return SearchEngine(
        shop.policy(1), shop.identifiers.trie, catalogue, shop.identifiers, shop.truth(catalogue), shop.encoder,
        EngineSettings.model_validate({"exploration": 0} | settings), checkpoint="policy-1",
    )  # fmt: skip


@pytest.fixture
def stocked(shop: Shop) -> Catalogue:
    """The shop's catalogue with a stock; every seventh price is not known."""
    catalogue, rng = shop.world.catalogue, np.random.default_rng(3)
    prices_N = np.where(np.arange(len(catalogue)) % 7 == 0, 0, catalogue.prices_N).astype(np.float32)
    return replace(catalogue, in_stock_N=rng.random(len(catalogue)) < 0.6, prices_N=prices_N)


def asked(shop: Shop, catalogue: Catalogue, **about: Any) -> SearchRequest:
    """The first live request, at the end of the world, for the whole shop."""
    base = {"ts": shop.world.end_ms, "k": len(catalogue)}
    return msgspec.structs.replace(shop.requests(1)[0], **(base | about))


def answer(engine: SearchEngine, request: SearchRequest, prior: PosteriorSnapshot) -> SearchAnswer:
    return engine.answer([request], RewardWeights(), prior)[0]


def names(answer: SearchAnswer) -> list[str]:
    return [item.item for item in answer.items]


def cases(catalogue: Catalogue) -> list[tuple[dict[str, Any], Filter, Callable[[int], bool]]]:
    """(other parameters, filter, who passes by looking at a row), each of them and all together."""
    categories = tuple(sorted(set(catalogue.categories))[:3])
    low, high = np.quantile(catalogue.prices_N[catalogue.prices_N > 0], [0.2, 0.7]).astype(float).tolist()
    ban = catalogue.items[::4]
    some = catalogue.items[10:150]
    stock = catalogue.in_stock_N
    assert stock is not None

    def priced(row: int) -> bool:
        return catalogue.prices_N[row] > 0 and low <= float(catalogue.prices_N[row]) <= high

    every = Filter(categories, low, high, True, ban)
    return [
        ({}, Filter(categories), lambda n: catalogue.categories[n] in categories),
        ({}, Filter(min_price=low, max_price=high), priced),
        ({}, Filter(max_price=low), lambda n: 0 < catalogue.prices_N[n] <= low),
        ({}, Filter(in_stock=True), lambda n: bool(stock[n])),
        ({}, Filter(ban=ban), lambda n: catalogue.items[n] not in ban),
        ({"items": some}, Filter(ban=ban), lambda n: catalogue.items[n] in some and catalogue.items[n] not in ban),
        (
            {}, every,
            lambda n: catalogue.categories[n] in categories and priced(n) and bool(stock[n]) and catalogue.items[n] not in ban,
        ),
    ]  # fmt: skip


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=20), st.data())
def test_an_item_of_just_the_bound_passes(cents: list[int], data: st.DataObject) -> None:
    """Prices of the catalogue are float32: an item of 19.99 costs at least and at most 19.99, and not 20.00."""
    blank, none = ("",) * len(cents), np.zeros(len(cents), np.int64)
    prices_N = np.array([cent / 100 for cent in cents], np.float32)
    facets = Facets(Catalogue(tuple(map(str, range(len(cents)))), blank, blank, blank, prices_N, none, ({},) * len(cents)))
    bound = data.draw(st.sampled_from(cents))
    assert facets.passing(Filter(min_price=bound / 100)).tolist() == [cent >= bound for cent in cents]
    assert facets.passing(Filter(max_price=bound / 100)).tolist() == [cent <= bound for cent in cents]
    assert facets.passing(Filter(max_price=1e300)).all() and not facets.passing(Filter(min_price=1e300)).any()


def test_all_that_pass_and_nobody_else_with_the_catalogues_scores(
    shop: Shop, stocked: Catalogue, prior: PosteriorSnapshot
) -> None:
    """Whoever passes is found; a narrow beam still fills the page; a log-probability is the one without a filter."""
    wide, narrow = engine_over(shop, stocked), engine_over(shop, stocked, beam=3)
    everything = answer(wide, asked(shop, stocked), prior)
    policy = {item.item: item.scores.policy for item in everything.items}
    assert len(policy) == len(stocked)
    for about, wanted, passes in cases(stocked):
        expected = {item for n, item in enumerate(stocked.items) if passes(n)}
        assert 5 < len(expected) < len(stocked)
        found = answer(wide, asked(shop, stocked, filter=wanted, **about), prior)
        assert set(names(found)) == expected
        assert {item.item: item.scores.policy for item in found.items} == pytest.approx(
            {item: policy[item] for item in expected}, abs=1e-4
        )
        page = answer(narrow, asked(shop, stocked, filter=wanted, k=5, **about), prior)
        assert len(page.items) == 5 and set(names(page)) <= expected
        assert impression(asked(shop, stocked, filter=wanted), page).filter == wanted


def test_a_filter_respects_the_time_and_is_worked_out_once(shop: Shop, stocked: Catalogue, prior: PosteriorSnapshot) -> None:
    """The same filter later lets the new items in; asked again at the same time it is the same mask."""
    engine, wanted = engine_over(shop, stocked), Filter(in_stock=True)
    early = asked(shop, stocked, filter=wanted, ts=shop.world.live_ms)
    before, after = answer(engine, early, prior), answer(engine, asked(shop, stocked, filter=wanted), prior)
    stock, since = stocked.in_stock_N, stocked.available_from_N
    assert stock is not None
    assert set(names(before)) == {
        item for n, item in enumerate(stocked.items) if stock[n] and since[n] <= shop.world.live_ms
    }
    assert set(names(after)) == {item for n, item in enumerate(stocked.items) if stock[n]}
    kept = len(engine.shelf._kept)
    answer(engine, msgspec.structs.replace(early, filter=Filter(in_stock=True, pin=(stocked.items[0],))), prior)
    assert len(engine.shelf._kept) == kept == 2


def test_what_leaves_nothing_says_which_condition(shop: Shop, stocked: Catalogue, prior: PosteriorSnapshot) -> None:
    """And unknown names are told, in an answer that has items and in one that has none."""
    engine, plain = engine_over(shop, stocked), shop.engine(1)
    category = stocked.categories[0]
    few = tuple(item for n, item in enumerate(stocked.items) if stocked.categories[n] == category)
    none = "no item of the catalogue that is available"
    for engine_, about, reason in [
        (engine, {"filter": Filter(("Boats",))}, f"{none} is in category 'Boats'"),
        (engine, {"filter": Filter((category,), 1e6)}, f"{none} is in category '{category}' and costs 1000000 or more"),
        (engine, {"filter": Filter((category,), ban=few)}, f"{none} is in category '{category}' and is left by the ban"),
        (
            engine,
            {"items": few[:2], "filter": Filter(ban=few)},
            "none of the 2 items in the filter that is available is left",
        ),
        (plain, {"filter": Filter(in_stock=True)}, f"{none} is known to be in stock: the catalogue has no column in_stock"),
    ]:
        told = answer(engine_, asked(shop, stocked, **about), prior)
        assert told.items == () and reason in told.reason
    partly = answer(
        engine, asked(shop, stocked, filter=Filter((category, "Boats"), ban=("nobody", stocked.items[0]))), prior
    )
    assert partly.items and partly.reason == ""
    assert partly.notes == ("the catalogue has no category 'Boats'", "1 of 2 banned items are not in the catalogue")


def test_pins_lead_in_their_order_and_the_rest_is_drawn_as_if_they_were_not_there(
    shop: Shop, stocked: Catalogue, prior: PosteriorSnapshot
) -> None:
    """Pinned places are certain: probability 1, one candidate each. Behind them each propensity is a softmax over the others
    alone, and their product is the list's; the pinned items' scores are those that the search would have given them."""
    engine = engine_over(shop, stocked, exploration=0.8)
    free = answer(engine, asked(shop, stocked), prior)
    pins = (free.items[-1].item, free.items[40].item, free.items[0].item)
    request = asked(shop, stocked, filter=Filter(pin=pins))
    page = answer(engine, request, prior)
    assert names(page)[:3] == list(pins)
    assert sorted(names(page)) == sorted(names(free))
    assert [item.propensity for item in page.items[:3]] == [1.0] * 3
    scores = {item.item: item.scores.total for item in free.items}
    assert {item.item: item.scores.total for item in page.items} == pytest.approx(scores, abs=1e-4)
    utility, support = [item.scores.total / 0.8 for item in page.items], 3
    for n, item in enumerate(page.items[3:], start=3):
        rest = sum(math.exp(u - utility[n]) for u in utility[n:])
        assert item.propensity == pytest.approx(1 / rest, rel=1e-9)
        support += sum(math.exp(u - utility[n]) / rest >= SUPPORT_FLOOR for u in utility[n:])
    assert page.support == impression(request, page).support == support
    assert page.list_propensity_log == pytest.approx(sum(math.log(item.propensity) for item in page.items[3:]))
    # The same noise orders the rest with and without pins.
    assert names(page)[3:] == [item for item in names(free) if item not in pins]


def test_a_pin_that_may_not_be_shown_is_told(shop: Shop, stocked: Catalogue, prior: PosteriorSnapshot) -> None:
    """Not yet there, not passing, not known: a note each; a page may consist of pins alone."""
    engine, pools = engine_over(shop, stocked, exploration=0.5, beam=5), Pools()
    later = stocked.items[int(np.argmax(stocked.available_from_N))]
    here = [item for n, item in enumerate(stocked.items) if stocked.available_from_N[n] == 0]
    early = asked(shop, stocked, k=4, ts=shop.world.live_ms, filter=Filter(pin=(later, "nobody", here[5])))
    alone = asked(shop, stocked, k=2, items=tuple(here[:3]), filter=Filter(pin=(here[2], here[1])))
    whole = asked(shop, stocked, k=9, items=tuple(here[:2]), filter=Filter(pin=(here[2], here[1], here[0])))
    told, pinned, short = engine.answer([early, alone, whole], RewardWeights(), prior, pools=pools)
    assert names(told)[0] == here[5] and len(told.items) == 4
    assert told.notes == (
        f"pinned item {later} is not available, or does not pass the filter",
        "pinned item nobody is not in the catalogue",
    )
    assert names(pinned) == [here[2], here[1]] and pinned.list_propensity_log == 0.0 and pinned.support == 2
    assert names(short) == [here[1], here[0]] and len(short.notes) == 1
    assert pools.kept == 0
    engine.answer([asked(shop, stocked, k=4)], RewardWeights(), prior, pools=pools)
    assert pools.kept == 1


class Pools:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.kept = 0

    def wants(self, request_id: str) -> bool:
        return bool(request_id)

    def keep(self, user: str, pool: object) -> None:
        self.kept += bool(user) and pool is not None


@pytest.mark.services
def test_filters_over_http(serve: Callable[..., AbstractContextManager[Any]], shop: Shop, fresh_topics: Connections) -> None:
    """Parameters as docs/serving.md has them; the same id with another filter is another search."""
    catalogue = shop.world.catalogue
    category = catalogue.categories[0]
    inside = [item for n, item in enumerate(catalogue.items) if catalogue.categories[n] == category]
    good = {"q": "lamp", "user": "ann", "ts": shop.world.end_ms, "request_id": "one", "k": 5}
    wanted = {"category": category, "ban": inside[0], "pin": f"{inside[2]},{inside[1]}", "max_price": 1e6}
    with serve(fresh_topics) as server:
        server.wait_ready()
        page = server.search(**good, **wanted).json()
        again = server.search(**good, **wanted).json()
        other = server.search(**good, **(wanted | {"ban": inside[3]}))
    shown: Sequence[str] = [item["item"] for item in page["items"]]
    assert shown[:2] == [inside[2], inside[1]] and set(shown) <= set(inside[1:])
    assert again["items"] == page["items"] and other.status_code == 409
    ((_, logged),) = impressions(fresh_topics)
    assert [item.propensity for item in logged.items[:2]] == [1.0, 1.0]
