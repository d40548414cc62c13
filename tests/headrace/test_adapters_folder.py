"""A folder with a shop's own data as a world: replay, closed loop through its simulator, errors that name the place."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from headrace.adapters.folder import FolderWorld
from headrace.adapters.opening import open_world
from headrace.shop.settings import DAY_MS, FolderSettings, ShopSettings
from headrace.world import Request
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData, InvalidSetting, InvalidValue
from schemas.events import Click, Impression, Order, Return
from schemas.store import Store

START = 1_704_067_200_000
NOW = 1_790_000_000_000
SETTINGS = ShopSettings(folder=FolderSettings(history_days=3, live_days=4, history_users=1, live_users=1))
WHOLE = ShopSettings(folder=FolderSettings(log_history_share=1))

ITEMS = {
    "item_id": [11, 12, 13],
    "title": ["steel bolt", "oak door", "late lamp"],
    "brand_guess": ["Acme", "", ""],
    "type_guess": ["bolt", "door", "lamp"],
    "cat1": [1, 2, 3],
    "cat1_name": ["hardware", "doors", "lights"],
    "attrs": ['{"sizes": ["2 in."]}', "{}", "{}"],
    "price": [1.5, 99.0, 20.0],
}
QUERIES = {"query_id": [1, 2, 3], "query": ["bolt", "door", "lamp"], "split": ["train", "train", "valid"]}
JUDGMENTS = {"query_id": [1, 1, 2, 3], "item_id": [11, 12, 12, 13], "relevance": [3.0, 1.0, 3.0, 2.6], "tier": [3, 0, 3, 3]}
EVENTS = [
    {
        "ts": START + 1_000,
        "type": "impression",
        "imp": 1,
        "user": 7,
        "session": 1,
        "query_id": 1,
        "items": [11, 12],
        "lp": -2.0,
    },
    {"ts": START + 5_000, "type": "click", "imp": 1, "user": 7, "item": 12, "pos": 2},
    {"ts": START + 9_000, "type": "order", "imp": 1, "user": 7, "item": 12, "pos": 2},
    {"ts": START + DAY_MS, "type": "item_added", "item": 13},
    {"ts": START + 2 * DAY_MS, "type": "impression", "imp": 2, "user": 7, "session": 2, "query_id": 2, "items": [12]},
    {"ts": START + 2 * DAY_MS + 5_000, "type": "return", "imp": 1, "user": 7, "item": 12},
    {"ts": START + 5 * DAY_MS, "type": "impression", "imp": 3, "user": 8, "session": 3, "query_id": 1, "items": [11]},
]
#: A user clicks everything at once and orders what is on top; day 5 changes the taste.
SIMULATOR = """
class World:
    def __init__(self, folder, config):
        self.start = config["start_ms"]
    def requests(self):
        for n in range(28):
            ts = self.start + n * 6 * 3_600_000
            yield dict(imp=100 + n, ts=ts, user=n % 5, session=n, query_id=1 + n % 2, day=n / 4, cand=[11, 12])
    def feedback(self, r, ids):
        out = [(r["ts"] + 1000 * k, "click", x, k) for k, x in enumerate(ids, 1)]
        return out + [(r["ts"] + 9000, "order", ids[0], 1)]
    def click_prob(self, r, ids):
        return [0.9 if r["day"] < 5 else 0.1 for _ in ids], None, None, None
"""


def _write(folder: Path, simulator: bool = False, **changes: object) -> Path:
    """The folder, with whole tables or the event list replaced by name."""
    folder.mkdir(exist_ok=True)
    (folder / "stream").mkdir(exist_ok=True)
    tables = {"items": ITEMS, "queries": QUERIES, "judgments": JUDGMENTS}
    for name, table in tables.items():
        pq.write_table(pa.table(changes.get(name, table)), folder / f"{name}.parquet")
    lines = "".join(e if isinstance(e, str) else json.dumps(e) + "\n" for e in changes.get("events", EVENTS))
    (folder / "stream" / "events.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    if simulator:
        (folder / "simulate.py").write_text(str(changes.get("simulate", SIMULATOR)))
        config = changes.get("config", {"start_ms": START, "drift": {"day": 5}})
        (folder / "sim_config.json").write_text(json.dumps(config))
    return folder


def _open(folder: Path, settings: ShopSettings = SETTINGS) -> FolderWorld:
    world = open_world(str(folder), settings, NOW, seed=1)
    assert isinstance(world, FolderWorld)
    return world


def test_a_folder_without_a_simulator_is_a_log_at_moved_times(tmp_path):
    world = _open(_write(tmp_path / "mine"), WHOLE)
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
    world = _open(_write(tmp_path / "mine"))
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
    world = _open(_write(tmp_path / "with", items={**ITEMS, "margin": margins}, events=events), WHOLE)
    assert world.catalogue.margins_N.tolist() == margins
    assert next((e.segment, e.market) for e in world.history() if isinstance(e, Impression)) == ("loyal", "north")
    bare = _open(_write(tmp_path / "without"), WHOLE)
    assert bare.catalogue.margins_N is None
    assert {(e.segment, e.market) for e in bare.history() if isinstance(e, Impression)} == {("", "")}
    with pytest.raises(InvalidData, match="margin") as caught:
        _open(_write(tmp_path / "wrong", items={**ITEMS, "margin": [0.5, 1.5, *[0.0] * (rows - 2)]}), WHOLE)
    assert caught.value.row == 2


def test_the_stock_is_taken_where_it_is_and_lies_in_the_catalogue(tmp_path):
    """A column of the items, written and read with the catalogue; without it nothing is known of any item's stock."""
    stock = [n % 2 == 0 for n in range(len(ITEMS["item_id"]))]
    world = _open(_write(tmp_path / "with", items={**ITEMS, "in_stock": stock}), WHOLE)
    store = Store(str(tmp_path / "store"))
    world.catalogue.save(store)
    assert Catalogue.load(store).in_stock_N.tolist() == world.catalogue.in_stock_N.tolist() == stock
    assert _open(_write(tmp_path / "without"), WHOLE).catalogue.in_stock_N is None
    with pytest.raises(InvalidData, match="in_stock"):
        _open(_write(tmp_path / "wrong", items={**ITEMS, "in_stock": ["yes"] * len(stock)}), WHOLE)


def test_held_out_queries_are_not_among_the_judgments_but_their_tiers_are_known(tmp_path):
    world = _open(_write(tmp_path / "mine"))
    assert [tuple(judgment) for judgment in world.judgments] == [("bolt", "11", 3), ("bolt", "12", 0), ("door", "12", 3)]
    assert [tuple(judgment) for judgment in world.held_out] == [("lamp", "13", 3)]
    assert world.tiers("lamp", ["13", "11"]).tolist() == [3, 0]


def test_with_a_simulator_the_log_before_the_border_is_history_and_the_rest_is_shopped_live(tmp_path):
    """Three days of history; live from day 3 to the log's last event on day 5; the taste changes on day 5: never."""
    world = _open(_write(tmp_path / "mine", simulator=True))
    shift = world.start_ms - START
    assert shift % DAY_MS == 0 and world.end_ms <= NOW - 5 * DAY_MS
    assert (world.live_ms - world.start_ms, world.end_ms - world.start_ms) == (3 * DAY_MS, 5 * DAY_MS)
    assert world.drift_ms == world.end_ms
    assert {event.request_id for event in world.history() if isinstance(event, Impression)} == {"r1", "r2"}
    requests = list(world.requests())
    assert [request.ts for request in requests] == [START + shift + n * DAY_MS // 4 for n in range(12, 20)]
    assert requests[0] == Request("r112", requests[0].ts, "u2", "12", "bolt", ("11", "12"))


def test_live_feedback_is_the_simulators_with_moved_times_and_names(tmp_path):
    world = _open(_write(tmp_path / "mine", simulator=True))
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
    world = _open(_write(tmp_path / "mine", simulator=True, events=events))
    assert world.drift_ms == world.start_ms + 5 * DAY_MS
    assert world.end_ms == world.start_ms + 7 * DAY_MS  # four live days
    for request in world.requests():
        expected = 0.9 if request.ts < world.drift_ms else 0.1
        assert world.click_probability(request, ["11", "13"]).tolist() == [expected] * 2


def test_shares_of_users_choose_the_same_users_each_time(tmp_path):
    folder = _write(tmp_path / "mine", simulator=True)
    half = SETTINGS.model_copy(update={"folder": FolderSettings(live_users=0.5, history_users=1, live_days=4)})
    users = [{request.user for request in _open(folder, half).requests()} for _ in range(2)]
    everybody = {request.user for request in _open(folder).requests()}
    assert users[0] == users[1] < everybody
    nobody = SETTINGS.model_copy(update={"folder": FolderSettings(live_users=0, history_users=0)})
    world = _open(folder, nobody)
    assert list(world.requests()) == [] and list(world.history()) == []


def test_text_ids_work_as_well_as_numbers(tmp_path):
    items = {"item_id": ["a", "b"], "title": ["x", "y"]}
    queries = {"query_id": ["q"], "query": ["thing"]}
    judgments = {"query_id": ["q"], "item_id": ["b"], "tier": [2]}
    events = [{"ts": START, "type": "impression", "imp": "v", "user": "me", "query_id": "q", "items": ["b", "a"]}]
    world = _open(_write(tmp_path / "mine", items=items, queries=queries, judgments=judgments, events=events), WHOLE)
    assert [shown.item for shown in next(world.history()).items] == ["b", "a"]
    assert world.tiers("thing", ["a", "b"]).tolist() == [0, 2]
    assert world.catalogue.prices_N.tolist() == [0, 0]


def test_without_a_simulator_the_log_answers_its_later_page_views(tmp_path):
    """Half of three page views is one; the second and third are asked. The first one's return stays with the history."""
    folder = _write(tmp_path / "mine")
    world = _open(folder, SETTINGS.model_copy(update={"folder": FolderSettings(log_history_share=0.5)}))
    shift = world.start_ms - (START + 1_000)
    assert [type(event) for event in world.history()] == [Impression, Click, Order, Return]
    assert list(world.requests()) == [
        Request("r2", START + 2 * DAY_MS + shift, "u7", "2", "door", ("12",)),
        Request("r3", START + 5 * DAY_MS + shift, "u8", "3", "bolt", ("11",)),
    ]
    assert [world.labelled(request) for request in world.requests()] == [True, True]
    everything = _open(folder, SETTINGS.model_copy(update={"folder": FolderSettings(log_history_share=0)}))
    first = next(iter(everything.requests()))
    assert everything.feedback(first, ["12"]).clicks == (Click(first.ts + 4_000, "u7", "12", "r1", 1),)
    assert everything.click_probability(first, ["11", "12"]).tolist() == [0.0, 1.0]
    assert everything.feedback(first, ["11"]) == ((), (), ())


def test_a_simulator_refuses_a_request_that_is_not_its_own(tmp_path):
    world = _open(_write(tmp_path / "mine", simulator=True))
    assert world.notes == ()
    with pytest.raises(InvalidValue, match=r"requests\(\)"):
        world.feedback(Request("r", world.end_ms, "u7", "", "bolt"), ["11"])


def test_the_log_may_name_a_click_before_its_page_view(tmp_path):
    folder = _write(tmp_path / "mine", events=EVENTS[::-1])
    assert list(_open(folder, WHOLE).history()) == list(_open(_write(tmp_path / "other"), WHOLE).history())


def _without(table: dict, name: str) -> dict:
    return {key: value for key, value in table.items() if key != name}


@pytest.mark.parametrize(
    ("changes", "file", "row", "field"),
    [
        ({"items": {**ITEMS, "colour": ["r", "g", "b"]}}, "items.parquet", None, "colour"),
        ({"items": _without(ITEMS, "title")}, "items.parquet", None, "title"),
        ({"items": {**ITEMS, "title": [1, 2, 3]}}, "items.parquet", None, "title"),
        ({"items": {**ITEMS, "title": ["a", None, "c"]}}, "items.parquet", 2, "title"),
        ({"items": {**ITEMS, "item_id": [11, 12, 11]}}, "items.parquet", 3, "item_id"),
        ({"items": {**ITEMS, "attrs": ["{}", "[1]", "{}"]}}, "items.parquet", 2, "attrs"),
        ({"queries": {**QUERIES, "query": ["a", " ", "c"]}}, "queries.parquet", 2, "query"),
        ({"judgments": {**JUDGMENTS, "tier": [3, 0, 4, 3]}}, "judgments.parquet", 3, "tier"),
        ({"judgments": {**JUDGMENTS, "item_id": [11, 12, 12, 99]}}, "judgments.parquet", 4, "item_id"),
        ({"judgments": {**JUDGMENTS, "query_id": [1, 8, 2, 3]}}, "judgments.parquet", 2, "query_id"),
        ({"judgments": {**JUDGMENTS, "tier": [3.0, 0.0, 3.0, 3.0]}}, "judgments.parquet", None, "tier"),
        ({"events": [EVENTS[0], {**EVENTS[1], "ts": "soon"}]}, "events.jsonl.zst", 2, "ts"),
        ({"events": [EVENTS[0], {**EVENTS[1], "mood": 1}]}, "events.jsonl.zst", 2, "mood"),
        ({"events": [_without(EVENTS[0], "items")]}, "events.jsonl.zst", 1, "items"),
        ({"events": [EVENTS[0], "not json\n"]}, "events.jsonl.zst", 2, "record"),
        ({"events": [{**EVENTS[0], "items": [11, 11]}]}, "events.jsonl.zst", 1, "items"),
        ({"events": [{**EVENTS[0], "items": [11, 77]}]}, "events.jsonl.zst", 1, "item"),
        ({"events": [{**EVENTS[0], "query_id": 9}]}, "events.jsonl.zst", 1, "query_id"),
        ({"events": [EVENTS[0], {**EVENTS[1], "pos": -1}]}, "events.jsonl.zst", 2, "pos"),
        ({"events": []}, "events.jsonl.zst", None, "events"),
        ({"simulator": True, "config": {"start_ms": "x"}}, "sim_config.json", None, "start_ms"),
        ({"simulator": True, "simulate": "x = 1\n"}, "simulate.py", None, "World"),
    ],
)
def test_what_is_not_as_documented_is_named_by_file_row_and_field(tmp_path, changes, file, row, field):
    folder = _write(tmp_path / "mine", **changes)
    with pytest.raises(InvalidData) as caught:
        _open(folder)
    error = caught.value
    assert (Path(error.file).name, error.row, error.field) == (file, row, field)
    assert file in str(error) and field in str(error)


@pytest.mark.parametrize("name", ["queries.parquet", "judgments.parquet", "stream/events.jsonl.zst", "sim_config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = _write(tmp_path / "mine", simulator=True)
    (folder / name).unlink()
    with pytest.raises(InvalidData, match=name.split("/")[-1]):
        _open(folder)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    folder = _write(tmp_path / "mine")
    (folder / "items.parquet").write_bytes(b"hello")
    with pytest.raises(InvalidData, match=r"items\.parquet"):
        _open(folder)


def test_plain_jsonl_is_read_like_zstd(tmp_path):
    folder = _write(tmp_path / "mine")
    packed = folder / "stream" / "events.jsonl.zst"
    expected = list(_open(folder, WHOLE).history())
    (folder / "stream" / "events.jsonl").write_bytes(zstandard.decompress(packed.read_bytes(), max_output_size=10**6))
    packed.unlink()
    assert list(_open(folder, WHOLE).history()) == expected


def test_the_embedded_shop_takes_seed_and_size(tmp_path):
    shop = open_world("shop", ShopSettings(history_impressions=10, live_requests=10, queries=20), NOW, seed=4, items=150)
    assert shop.name == "shop" and len(shop.catalogue) == 150
    other = open_world("shop", ShopSettings(history_impressions=10, live_requests=10, queries=20), NOW, seed=5, items=150)
    assert shop.catalogue.titles != other.catalogue.titles
    requests = list(shop.requests())
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(requests)) and len(requests) == 10
    assert np.isin(shop.tiers(requests[0].query, shop.catalogue.items), [0, 1, 2, 3]).all()


def test_a_folder_of_no_known_form_and_a_wrong_name_say_what_would_do(tmp_path):
    with pytest.raises(InvalidSetting, match="'shop' or an existing folder"):
        open_world(str(tmp_path / "nowhere"), SETTINGS, NOW, 1)
    with pytest.raises(InvalidData, match=r"items\.parquet"):
        open_world(str(tmp_path), SETTINGS, NOW, 1)
    with pytest.raises(InvalidSetting, match="items is 50"):
        open_world(str(_write(tmp_path / "mine")), SETTINGS, NOW, 1, items=50)
