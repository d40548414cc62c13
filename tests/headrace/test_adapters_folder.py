"""A folder with a shop's own data as a world: replay, closed loop through its simulator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import zstandard

from headrace.adapters.opening import open_world
from headrace.shop.settings import DAY_MS, FolderSettings, ShopSettings
from headrace.world import Request
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData, InvalidValue
from schemas.events import Click, Impression, Order, Return
from schemas.store import Store
from tests.headrace.folder_toys import (
    EVENTS,
    ITEMS,
    NOW,
    SETTINGS,
    START,
    WHOLE,
    opened,
    write,
)


def test_a_folder_without_a_simulator_is_a_log_at_moved_times(tmp_path):
    world = opened(write(tmp_path / "mine"), WHOLE)
    shift = world.start_ms - (START + 1_000)
    assert shift % DAY_MS == 0 and NOW - 6 * DAY_MS < world.end_ms <= NOW - 5 * DAY_MS
    first, click, order, second, back, third = world.history()
    assert first == Impression(
        START + 1_000 + shift, "r1", "u7", "bolt", first.items, session="1", recent_queries=(), recent_items=()
    )
    assert [(shown.item, shown.position) for shown in first.items] == [("11", 1), ("12", 2)]
    assert math.prod(shown.propensity for shown in first.items) == pytest.approx(math.exp(-2.0))
    assert click == Click(START + 5_000 + shift, "u7", "12", "r1", 2)
    assert order == Order(START + 9_000 + shift, "u7", "12", "o-r1-12", 99.0)
    assert second.recent_queries == ("bolt",) and second.recent_items == ("12",)
    assert back == Return(START + 2 * DAY_MS + 5_000 + shift, "u7", "o-r1-12")
    assert third.user == "u8"
    assert list(world.requests()) == [] and world.live_ms == world.end_ms == world.drift_ms


def test_the_catalogue_takes_names_attributes_prices_and_arrivals(tmp_path):
    world = opened(write(tmp_path / "mine"))
    catalogue, shift = world.catalogue, world.start_ms - (START + 1_000)
    assert catalogue.items == ("11", "12", "13") and catalogue.titles[0] == "steel bolt"
    assert catalogue.attributes[0] == {"entity": "bolt", "brand": "Acme", "specification": "2 in."}
    assert catalogue.categories == ("hardware", "doors", "lights") and catalogue.prices_N.tolist() == [1.5, 99.0, 20.0]
    assert catalogue.available_from_N.tolist() == [0, 0, START + DAY_MS + shift]


def test_margins_segments_and_markets_are_taken_where_they_are(tmp_path):
    """A column of the items, fields of the page views; without them nothing is known. A margin above 1 is refused by its row."""
    events = [{**EVENTS[0], "segment": "loyal", "market": "north"}, *EVENTS[1:]]
    rows = len(ITEMS["item_id"])
    margins = [0.25, *[1.0] * (rows - 1)]
    world = opened(write(tmp_path / "with", items={**ITEMS, "margin": margins}, events=events), WHOLE)
    assert world.catalogue.margins_N.tolist() == margins
    assert next((e.segment, e.market) for e in world.history() if isinstance(e, Impression)) == ("loyal", "north")
    bare = opened(write(tmp_path / "without"), WHOLE)
    assert bare.catalogue.margins_N is None
    assert {(e.segment, e.market) for e in bare.history() if isinstance(e, Impression)} == {("", "")}
    with pytest.raises(InvalidData, match="margin") as caught:
        opened(write(tmp_path / "wrong", items={**ITEMS, "margin": [0.5, 1.5, *[0.0] * (rows - 2)]}), WHOLE)
    assert caught.value.row == 2


def test_the_stock_is_taken_where_it_is_and_lies_in_the_catalogue(tmp_path):
    """A column of the items, written and read with the catalogue; without it nothing is known of any item's stock."""
    stock = [n % 2 == 0 for n in range(len(ITEMS["item_id"]))]
    world = opened(write(tmp_path / "with", items={**ITEMS, "in_stock": stock}), WHOLE)
    store = Store(str(tmp_path / "store"))
    world.catalogue.save(store)
    assert Catalogue.load(store).in_stock_N.tolist() == world.catalogue.in_stock_N.tolist() == stock
    assert opened(write(tmp_path / "without"), WHOLE).catalogue.in_stock_N is None
    with pytest.raises(InvalidData, match="in_stock"):
        opened(write(tmp_path / "wrong", items={**ITEMS, "in_stock": ["yes"] * len(stock)}), WHOLE)


def test_held_out_queries_are_not_among_the_judgments_but_their_tiers_are_known(tmp_path):
    world = opened(write(tmp_path / "mine"))
    assert [tuple(judgment) for judgment in world.judgments] == [("bolt", "11", 3), ("bolt", "12", 0), ("door", "12", 3)]
    assert [tuple(judgment) for judgment in world.held_out] == [("lamp", "13", 3)]
    assert world.tiers("lamp", ["13", "11"]).tolist() == [3, 0]


def test_with_a_simulator_the_log_before_the_border_is_history_and_the_rest_is_shopped_live(tmp_path):
    """Three days of history; live from day 3 to the log's last event on day 5; the taste changes on day 5: never."""
    world = opened(write(tmp_path / "mine", simulator=True))
    shift = world.start_ms - START
    assert shift % DAY_MS == 0 and world.end_ms <= NOW - 5 * DAY_MS
    assert (world.live_ms - world.start_ms, world.end_ms - world.start_ms) == (3 * DAY_MS, 5 * DAY_MS)
    assert world.drift_ms == world.end_ms
    assert {event.request_id for event in world.history() if isinstance(event, Impression)} == {"r1", "r2"}
    requests = list(world.requests())
    assert [request.ts for request in requests] == [START + shift + n * DAY_MS // 4 for n in range(12, 20)]
    assert requests[0] == Request("r112", requests[0].ts, "u2", "12", "bolt", ("11", "12"))


def test_live_feedback_is_the_simulators_with_moved_times_and_names(tmp_path):
    world = opened(write(tmp_path / "mine", simulator=True))
    request = next(iter(world.requests()))
    later = request._replace(ts=request.ts + 500)  # the driver moved it into a round
    outcome = world.feedback(later, ["12", "11"])
    assert outcome.clicks == (
        Click(later.ts + 1_000, request.user, "12", request.request_id, 1),
        Click(later.ts + 2_000, request.user, "11", request.request_id, 2),
    )
    assert outcome.orders == (Order(later.ts + 9_000, request.user, "12", f"o-{request.request_id}-12", 99.0),)
    assert outcome.returns == ()


def test_the_simulator_is_asked_for_the_day_on_which_the_search_happens(tmp_path):
    events = [*EVENTS, {**EVENTS[-1], "ts": START + 9 * DAY_MS, "imp": 4}]
    world = opened(write(tmp_path / "mine", simulator=True, events=events))
    assert world.drift_ms == world.start_ms + 5 * DAY_MS
    assert world.end_ms == world.start_ms + 7 * DAY_MS  # four live days
    for request in world.requests():
        expected = 0.9 if request.ts < world.drift_ms else 0.1
        assert world.click_probability(request, ["11", "13"]).tolist() == [expected] * 2


def test_shares_of_users_choose_the_same_users_each_time(tmp_path):
    folder = write(tmp_path / "mine", simulator=True)
    half = SETTINGS.model_copy(update={"folder": FolderSettings(live_users=0.5, history_users=1, live_days=4)})
    users = [{request.user for request in opened(folder, half).requests()} for _ in range(2)]
    everybody = {request.user for request in opened(folder).requests()}
    assert users[0] == users[1] < everybody
    nobody = SETTINGS.model_copy(update={"folder": FolderSettings(live_users=0, history_users=0)})
    world = opened(folder, nobody)
    assert list(world.requests()) == [] and list(world.history()) == []


def test_text_ids_work_as_well_as_numbers(tmp_path):
    items = {"item_id": ["a", "b"], "title": ["x", "y"]}
    queries = {"query_id": ["q"], "query": ["thing"]}
    judgments = {"query_id": ["q"], "item_id": ["b"], "tier": [2]}
    events = [{"ts": START, "type": "impression", "imp": "v", "user": "me", "query_id": "q", "items": ["b", "a"]}]
    world = opened(write(tmp_path / "mine", items=items, queries=queries, judgments=judgments, events=events), WHOLE)
    assert [shown.item for shown in next(world.history()).items] == ["b", "a"]
    assert world.tiers("thing", ["a", "b"]).tolist() == [0, 2]
    assert world.catalogue.prices_N.tolist() == [0, 0]


def test_without_a_simulator_the_log_answers_its_later_page_views(tmp_path):
    """Half of three page views is one; the second and third are asked. The first one's return stays with the history."""
    folder = write(tmp_path / "mine")
    world = opened(folder, SETTINGS.model_copy(update={"folder": FolderSettings(log_history_share=0.5)}))
    shift = world.start_ms - (START + 1_000)
    assert [type(event) for event in world.history()] == [Impression, Click, Order, Return]
    assert list(world.requests()) == [
        Request("r2", START + 2 * DAY_MS + shift, "u7", "2", "door", ("12",)),
        Request("r3", START + 5 * DAY_MS + shift, "u8", "3", "bolt", ("11",)),
    ]
    assert [world.labelled(request) for request in world.requests()] == [True, True]
    everything = opened(folder, SETTINGS.model_copy(update={"folder": FolderSettings(log_history_share=0)}))
    first = next(iter(everything.requests()))
    assert everything.feedback(first, ["12"]).clicks == (Click(first.ts + 4_000, "u7", "12", "r1", 1),)
    assert everything.click_probability(first, ["11", "12"]).tolist() == [0.0, 1.0]
    assert everything.feedback(first, ["11"]) == ((), (), ())


def test_a_simulator_refuses_a_request_that_is_not_its_own(tmp_path):
    world = opened(write(tmp_path / "mine", simulator=True))
    assert world.notes == ()
    with pytest.raises(InvalidValue, match=r"requests\(\)"):
        world.feedback(Request("r", world.end_ms, "u7", "", "bolt"), ["11"])


def test_the_log_may_name_a_click_before_its_page_view(tmp_path):
    folder = write(tmp_path / "mine", events=EVENTS[::-1])
    assert list(opened(folder, WHOLE).history()) == list(opened(write(tmp_path / "other"), WHOLE).history())


def test_plain_jsonl_is_read_like_zstd(tmp_path):
    folder = write(tmp_path / "mine")
    packed = folder / "stream" / "events.jsonl.zst"
    expected = list(opened(folder, WHOLE).history())
    (folder / "stream" / "events.jsonl").write_bytes(zstandard.decompress(packed.read_bytes(), max_output_size=10**6))
    packed.unlink()
    assert list(opened(folder, WHOLE).history()) == expected


def test_the_embedded_shop_takes_seed_and_size(tmp_path):
    shop = open_world("shop", ShopSettings(history_impressions=10, live_requests=10, queries=20), NOW, seed=4, items=150)
    assert shop.name == "shop" and len(shop.catalogue) == 150
    other = open_world("shop", ShopSettings(history_impressions=10, live_requests=10, queries=20), NOW, seed=5, items=150)
    assert shop.catalogue.titles != other.catalogue.titles
    requests = list(shop.requests())
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(requests)) and len(requests) == 10
    assert np.isin(shop.tiers(requests[0].query, shop.catalogue.items), [0, 1, 2, 3]).all()
