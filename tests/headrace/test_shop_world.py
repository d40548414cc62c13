"""The simulated shop as a world: its time line, its people, and draws that belong to (request, item)."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from headrace.shop import behaviour
from headrace.shop.catalogue import MARGINS
from headrace.shop.draws import item_draws
from headrace.shop.lexical import LexicalSearch
from headrace.shop.settings import DAY_MS, ShopSettings
from headrace.shop.users import MARKETS, SEGMENTS
from headrace.shop.world import ShopWorld
from schemas.errors import InvalidSetting, InvalidValue
from schemas.events import Click, Impression, Order, Return

NOW = 1_790_000_000_000
SMALL = ShopSettings(seed=3, items=800, users=200, queries=120, history_impressions=400, live_requests=600)


@pytest.fixture(scope="module")
def world() -> ShopWorld:
    return ShopWorld(SMALL, NOW)


@pytest.fixture(scope="module")
def history(world):
    return list(world.history())


def _relevant(world, request, count) -> list[str]:
    """The items that answer the request best."""
    best = np.argsort(-world.tiers(request.query, world.catalogue.items), kind="stable")[:count]
    return [world.catalogue.items[row] for row in best]


def test_the_time_line_is_history_live_part_and_quiet_days(world):
    assert world.end_ms == NOW - 5 * DAY_MS
    assert world.live_ms == NOW - 11 * DAY_MS
    assert world.start_ms == NOW - 15 * DAY_MS
    assert world.drift_ms == NOW - 8 * DAY_MS


def test_a_present_before_the_history_is_an_error():
    with pytest.raises(InvalidSetting, match="now_ms"):
        ShopWorld(SMALL, 10 * DAY_MS)


def test_the_history_is_in_time_order_with_as_many_views_as_asked(world, history):
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(history))
    views = [event for event in history if isinstance(event, Impression)]
    assert len(views) == 400
    assert all(world.start_ms <= view.ts < world.live_ms for view in views)
    assert all(len({shown.item for shown in view.items}) == 10 for view in views)
    assert [shown.position for shown in views[0].items] == list(range(1, 11))


def test_requests_are_in_time_order_inside_the_live_part(world):
    requests = list(world.requests())
    assert len(requests) == 600 and len({request.request_id for request in requests}) == 600
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(requests))
    assert world.live_ms <= requests[0].ts and requests[-1].ts < world.end_ms
    assert {request.session: request.user for request in requests}.keys() == {request.session for request in requests}


def test_a_session_belongs_to_one_user_and_some_have_several_searches(world):
    requests = list(world.requests())
    pairs = {(request.session, request.user) for request in requests}
    assert len(pairs) == len({session for session, _ in pairs}) < len(requests)


def test_users_have_a_segment_and_a_market_and_items_a_margin(world, history):
    """Every request of a user says the same, history and live alike; each group and both halves of the margins occur."""
    said: dict[str, set[tuple[str, str]]] = {}
    for one in [*world.requests(), *(event for event in history if isinstance(event, Impression))]:
        said.setdefault(one.user, set()).add((one.segment, one.market))
    assert all(len(groups) == 1 for groups in said.values())
    segments, markets = zip(*(groups.pop() for groups in said.values()), strict=True)
    assert (set(segments), set(markets)) == (set(SEGMENTS), set(MARKETS))
    margins_N = world.catalogue.margins_N
    assert MARGINS[0] <= margins_N.min() < sum(MARGINS) / 2 < margins_N.max() <= MARGINS[1]


def test_some_live_queries_are_new_and_new_items_were_never_logged(world, history):
    views = [event for event in history if isinstance(event, Impression)]
    known = {view.query for view in views}
    fresh = [request for request in world.requests() if request.query not in known]
    assert 0.02 < len(fresh) / 600 < 0.4
    arrives = dict(zip(world.catalogue.items, world.catalogue.available_from_N.tolist(), strict=True))
    assert all(arrives[shown.item] == 0 for view in views for shown in view.items)
    late = [ts for ts in arrives.values() if ts]
    assert 0.04 < len(late) / 800 < 0.13
    assert world.live_ms <= min(late) and max(late) <= world.live_ms + 0.8 * (world.end_ms - world.live_ms)


def test_everything_people_do_falls_inside_the_windows_and_before_now(world):
    """Clicks within 30 minutes of the view, orders within 24 hours of the click, returns within 3 days of the order."""
    clicks, orders, returns = {}, {}, 0
    for request in world.requests():
        outcome = world.feedback(request, _relevant(world, request, 15))
        for click in outcome.clicks:
            assert request.ts < click.ts <= request.ts + 1_800_000
            clicks[request.request_id, click.item] = click.ts
        for order in outcome.orders:
            assert 0 < order.ts - clicks[request.request_id, order.item] < DAY_MS
            orders[order.order_id] = order.ts
        for back in outcome.returns:
            assert 0 < back.ts - orders[back.order_id] < 3 * DAY_MS
            assert back.ts < NOW
            returns += 1
    assert clicks and orders and returns


def test_an_item_meets_the_same_draws_wherever_it_stands(world):
    """Higher up an item is clicked whenever it is lower down, at the same moment, and ordered at the same moment."""
    seen = 0
    for request in itertools.islice(world.requests(), 150):
        items = _relevant(world, request, 20)
        low = {c.item: c.ts for c in world.feedback(request, items).clicks}
        top = {c.item: c.ts for c in world.feedback(request, items[::-1]).clicks}
        for item, ts in low.items():
            if items.index(item) >= 10:  # reversed, it stands higher
                assert top[item] == ts
                seen += 1
        subset = {c.item: c.ts for c in world.feedback(request, items[:5]).clicks}
        assert subset == {item: ts for item, ts in low.items() if item in items[:5]}
    assert seen > 5


def test_feedback_of_another_world_object_of_the_same_seed_is_the_same(world):
    other = ShopWorld(SMALL, NOW)
    request = next(iter(other.requests()))
    assert request == next(iter(world.requests()))
    assert other.feedback(request, other.catalogue.items[:50]) == world.feedback(request, world.catalogue.items[:50])


def test_clicks_come_as_often_as_attraction_times_examination(world):
    """2,000 requests that differ only in their id: the mean at rank k is p * k^-0.85 within 4 standard errors."""
    base = next(iter(world.requests()))
    shown = _relevant(world, base, 4)
    p_N = world.click_probability(base, shown) * np.array([1.0, 2**-0.85, 3**-0.85, 4**-0.85])
    hits = np.zeros(4)
    for n in range(2_000):
        for click in world.feedback(base._replace(request_id=f"x{n}"), shown).clicks:
            hits[click.position - 1] += 1
    assert np.all(np.abs(hits / 2_000 - p_N) < 4 * np.sqrt(p_N * (1 - p_N) / 2_000))


def test_attraction_of_an_average_item_is_the_graded_form():
    """0.45 * (0.05 + 0.95 * (2^tier - 1) / 7): .0225, .0836, .2057, .45; one unit of appeal is one of log-odds."""
    zero = np.zeros(4)
    p_N = behaviour.attraction(np.arange(4, dtype=np.int8), zero, zero)
    assert p_N == pytest.approx([0.0225, 0.083571, 0.205714, 0.45], abs=1e-5)
    up = behaviour.attraction(np.array([3], dtype=np.int8), np.array([0.6]), np.array([0.4]))
    assert np.log(up[0] / (1 - up[0])) == pytest.approx(np.log(0.45 / 0.55) + 1.0)


def test_half_way_the_stated_share_of_items_changes_its_appeal(world):
    before = next(iter(world.requests()))
    after = before._replace(ts=world.drift_ms)
    changed = world.click_probability(before, world.catalogue.items) != world.click_probability(after, world.catalogue.items)
    assert changed.mean() == pytest.approx(SMALL.drift_share, abs=0.06)
    just_before = before._replace(ts=world.drift_ms - 1)
    items = world.catalogue.items
    assert np.array_equal(world.click_probability(before, items), world.click_probability(just_before, items))


def test_favourite_brands_and_colours_draw_and_prices_off_the_level_repel(world):
    users, columns = world.users, world.columns
    rows = np.arange(800)
    taste_N = users.taste(7, columns, rows)
    for row in rows[:200]:
        slot = [s for s in range(3) if users.categories_U3[7, s] == columns.category_N[row]]
        expected = -0.2 * abs(float(columns.price_z_N[row]) - float(users.price_U[7]))
        expected += 0.3 if columns.colour_N[row] in users.colours_U2[7] else 0.0
        expected += 0.5 if slot and columns.brand_N[row] in users.brands_U32[7, slot[0]] else 0.0
        assert taste_N[row] == pytest.approx(expected, abs=1e-5)


def test_labels_are_the_truth_but_for_the_stated_noise(world):
    pairs = [(j.tier, int(world.tiers(j.query, [j.item])[0])) for j in world.judgments]
    off = [abs(said - true) for said, true in pairs if said != true]
    assert set(off) == {1}
    assert len(off) / len(pairs) == pytest.approx(SMALL.judgment_noise, abs=0.03)
    assert {said for said, _ in pairs} == {0, 1, 2, 3}


def test_logged_propensities_are_plackett_luce():
    """Oracle: each shown item's weight over the weights of what is left of the pool."""
    titles = [f"blue thing {n}" if n < 6 else f"red thing {n}" for n in range(12)]
    search = LexicalSearch(titles, np.arange(12), 1)
    pool = search.pool("blue thing")
    page = search.sample("blue thing", 5, 0.7, np.random.default_rng(4))
    weight = {int(row): float(np.exp(z / 0.7)) for row, z in zip(pool.rows_P, pool.z_P, strict=True)}
    for row, propensity in zip(page.rows_K.tolist(), page.propensity_K.tolist(), strict=True):
        assert propensity == pytest.approx(weight[row] / sum(weight.values()))
        del weight[row]


def test_the_old_search_corrects_spelling_and_prefers_what_says_the_words():
    search = LexicalSearch(["oak bookshelf", "red skillet", "blue lamp"], np.arange(3), 1)
    assert search.pool("skilet").rows_P[0] == 1
    assert search.pool("lamp").rows_P[0] == 2


def test_impressions_carry_what_their_user_did_before(history):
    """Oracle: scan everything before the view."""
    for n, event in enumerate(history):
        if isinstance(event, Impression):
            earlier = [past for past in history[:n] if past.user == event.user]
            asked = [past.query for past in earlier if isinstance(past, Impression)]
            clicked = [past.item for past in earlier if isinstance(past, Click)]
            assert event.recent_queries == tuple(reversed(asked))[:5]
            ordered = [past.item for past in earlier if isinstance(past, Order)]
            assert event.recent_items == tuple(reversed(clicked))[:10]
            assert event.recent_orders == tuple(reversed(ordered))[:10]


def test_relevance_and_appeal_both_leave_room(world):
    """The old search is beaten by the true tiers, those by tiers and present appeal, and stale appeal lies between."""
    items = np.array(world.catalogue.items)
    theta = behaviour.examination(10, 0.85)
    clicks = {"tier": 0.0, "now": 0.0, "stale": 0.0}
    requests = [request for request in world.requests() if request.ts >= world.drift_ms][:150]
    for request in requests:
        p_N = world.click_probability(request, items)
        old_N = world.click_probability(request._replace(ts=world.live_ms), items)
        by = {"tier": world.tiers(request.query, items).astype(float), "now": p_N, "stale": old_N}
        for name, score_N in by.items():
            clicks[name] += float((p_N[np.argsort(-score_N, kind="stable")[:10]] * theta).sum()) / len(requests)
    assert clicks["now"] > 1.1 * clicks["stale"]
    assert clicks["stale"] > 1.05 * clicks["tier"]


def test_every_event_is_valid_on_the_wire(world, history):
    kinds = Impression | Click | Order | Return
    for event in history[:300]:
        assert msgspec.json.decode(msgspec.json.encode(event), type=kinds) == event


@pytest.mark.parametrize(
    ("user", "query", "item"), [("u99999", None, None), ("x", None, None), (None, "no such", None), (None, None, "i-none")]
)
def test_what_the_shop_does_not_know_is_an_error_that_names_it(world, user, query, item):
    request = next(iter(world.requests()))
    request = request._replace(user=user or request.user, query=query or request.query)
    with pytest.raises(InvalidValue, match=user or query or item):
        world.feedback(request, [item or world.catalogue.items[0]])


def test_draws_belong_to_request_and_row_alone():
    both = item_draws(1, "r1", np.array([5, 9]))
    assert np.array_equal(both[1:], item_draws(1, "r1", np.array([9])))
    assert not np.array_equal(both[0], both[1])
    assert not np.array_equal(both, item_draws(2, "r1", np.array([5, 9])))
    assert not np.array_equal(both, item_draws(1, "r2", np.array([5, 9])))


def test_draws_are_uniform():
    """20,000 numbers: mean within 4 standard errors (1/sqrt(12 n)) of a half, deciles equally full."""
    draws = item_draws(1, "r", np.arange(2_500)).ravel()
    assert abs(draws.mean() - 0.5) < 4 / np.sqrt(12 * draws.size)
    assert np.histogram(draws, 10, (0, 1))[0] / draws.size == pytest.approx(np.full(10, 0.1), abs=0.01)
