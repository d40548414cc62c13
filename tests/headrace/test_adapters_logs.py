"""Real logs in other forms: hotel lists with clicks and click-outs, KuaiSearch files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from headrace.adapters.opening import open_world
from headrace.shop.settings import DAY_MS, FolderSettings, ShopSettings
from schemas.errors import InvalidData
from schemas.events import Click, Impression, Order

T = 1_541_548_939_000
NOW = 1_790_000_000_000
#: The whole log as history; what of it is live is checked in test_adapters_live.py.
WHOLE = ShopSettings(folder=FolderSettings(log_history_share=1))

VIEW = {"view": 5, "ts": T, "user": "A", "session": "s", "platform": "AU", "device": "tablet", "city": "Bendigo, Australia",
        "filters": [], "context": {}, "items": [31, 32, 33], "prices": [77, 89, 82]}  # fmt: skip
VIEWS = [
    VIEW,
    {**VIEW, "view": 6, "ts": T + 60_000, "context": {"destination": "Prado, Brazil", "sort": "x"}, "items": [33],
     "prices": [80]},
    {**VIEW, "view": 7, "ts": T + 90_000, "context": {"item": "32"}, "items": [32], "prices": [90]},
]  # fmt: skip
HOTEL_EVENTS = [
    {"ts": T - 10, "user": "A", "session": "s", "type": "click", "kind": "deals", "item": 99},
    {"ts": T - 5, "user": "A", "session": "s", "type": "query", "kind": "destination", "text": "Bendigo", "city": "Bendigo"},
    {"ts": T, "type": "impression", "user": "A", "session": "s", "view": 5},
    {"ts": T + 1, "user": "A", "session": "s", "type": "click", "kind": "image", "item": 32, "view": 5, "pos": 2},
    {"ts": T + 2, "user": "A", "session": "s", "type": "click", "kind": "info", "item": 32, "view": 5, "pos": 2},
    {"ts": T + 3, "user": "A", "session": "s", "type": "clickout", "item": 32, "view": 5, "price": 89, "pos": 2},
    {"ts": T + 60_001, "user": "A", "session": "s", "type": "clickout", "item": 33, "view": 6, "price": 80, "pos": 1},
]


def _lines(path: Path, rows: list[dict]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)


def _hotels(folder: Path, views: list[dict] = VIEWS, events: list[dict] = HOTEL_EVENTS) -> Path:
    folder.mkdir()
    _lines(folder / "views.jsonl.zst", views)
    _lines(folder / "events.jsonl.zst", events)
    return folder


def test_hotel_lists_become_views_first_clicks_and_orders(tmp_path):
    """The click before any list and the query lines say nothing about a list; a second look is no second click."""
    world = open_world(str(_hotels(tmp_path / "hotels")), WHOLE, NOW, 1)
    shift = world.start_ms - T
    assert shift % DAY_MS == 0 and world.end_ms <= NOW - 5 * DAY_MS
    first, click, order, second, out, bought, third = world.history()
    assert isinstance(first, Impression) and [(s.item, s.position) for s in first.items] == [("31", 1), ("32", 2), ("33", 3)]
    assert (first.query, second.query, third.query) == ("Bendigo, Australia", "Prado, Brazil", "hotel 32")
    assert click == Click(T + 1 + shift, "A", "32", "v5", 2)
    assert order == Order(T + 4 + shift, "A", "32", "o-v5-32", 89.0)
    assert out == Click(T + 60_001 + shift, "A", "33", "v6", 1)
    assert bought == Order(T + 60_002 + shift, "A", "33", "o-v6-33", 80.0)
    catalogue = world.catalogue
    assert dict(zip(catalogue.items, catalogue.titles, strict=True)) == {n: f"hotel {n}" for n in ("31", "32", "33")}
    assert dict(zip(catalogue.items, catalogue.prices_N.tolist(), strict=True)) == {"31": 77, "32": 90, "33": 80}
    assert list(world.requests()) == [] and list(world.judgments) == []


@pytest.mark.parametrize(
    ("views", "events", "row", "field"),
    [
        ([VIEW, VIEW], HOTEL_EVENTS, 2, "view"),
        ([{**VIEW, "prices": [1]}], HOTEL_EVENTS, 1, "prices"),
        ([{**VIEW, "items": [], "prices": []}], HOTEL_EVENTS, 1, "items"),
        ([{**VIEW, "stars": 5}], HOTEL_EVENTS, 1, "stars"),
        ([], HOTEL_EVENTS, None, "views"),
        (VIEWS, [{**HOTEL_EVENTS[3], "view": 50}], 1, "view"),
        (VIEWS, [{**HOTEL_EVENTS[3], "item": 50}], 1, "item"),
        (VIEWS, [{**HOTEL_EVENTS[3], "ts": None}], 1, "ts"),
    ],
)
def test_broken_hotel_files_are_named_by_row_and_field(tmp_path, views, events, row, field):
    with pytest.raises(InvalidData) as caught:
        open_world(str(_hotels(tmp_path / "hotels", views, events)), WHOLE, NOW, 1)
    assert (caught.value.row, caught.value.field) == (row, field)


ITEM = {"item_id": 1, "item_title": "red dress", "brand_id": 1, "brand_name": "Moda", "category_level1_name": "women"}
USER = {"user_id": 9, "gender": "F", "age_bucket": "31-40", "fre_country": "x", "fre_province": "y", "fre_city": "z"}
RECALL = {"user_id": 9, "session_id": 1, "query": "dress", "time_index": 100, "impressed_item_ids": [1, 2, 2],
          "clicked_item_ids": [2], "purchased_item_ids": [1], "split": "train"}  # fmt: skip
RANK = {"user_id": 8, "session_id": 4, "time_index": 300, "search_entrance": "mall", "recently_clicked_item_ids": [5],
        "query": "hat", "target_item_id": 3, "target_item_price": 59.0, "is_clicked": 1, "is_purchased": 0,
        "user_statistical_features": {"a": 0.0}, "target_item_statistical_features": {"b": 1.0}}  # fmt: skip
SCORE = {"query": "dress", "item_title": "red dress", "brand": "Moda", "seller_name": "s", "attr_value": "v", "score": 3}


def _kuai(folder: Path, **changes: list[dict]) -> Path:
    folder.mkdir()
    rows = {
        "items": [ITEM],
        "users": [USER],
        "recall": [RECALL],
        "rank": [RANK, {**RANK, "target_item_id": 4, "is_clicked": 0}],
        "relevance": [SCORE, {**SCORE, "item_title": "green hat", "brand": "", "score": 0}],
    }
    for name, lines in (rows | changes).items():
        _lines(folder / f"{name}.jsonl", lines)
    return folder


def test_kuaisearch_lists_are_pages_in_the_order_of_their_time_index(tmp_path):
    """100 and 300 are the ends of the three days; an order without a click gets one; rank.jsonl adds its own page."""
    world = open_world(str(_kuai(tmp_path / "kuai")), WHOLE, NOW, 1)
    live = NOW - 5 * DAY_MS
    first, one, two, bought, second, hat = world.history()
    assert first == Impression(live - 3 * DAY_MS, "k0", "u9", "dress", first.items, "1")
    assert [shown.item for shown in first.items] == ["1", "2"]
    assert one == Click(first.ts + 5_000, "u9", "1", "k0", 1) and two == Click(first.ts + 5_000, "u9", "2", "k0", 2)
    assert bought == Order(first.ts + 60_000, "u9", "1", "o-k0-1", 0.0)
    assert second.ts == live - 120_000 and [shown.item for shown in second.items] == ["3", "4"]
    assert hat == Click(second.ts + 5_000, "u8", "3", "k1", 1)
    assert second.ts < world.live_ms == world.end_ms == second.ts + 1


def test_kuaisearch_items_come_from_the_file_the_lists_and_the_judged_titles(tmp_path):
    world = open_world(str(_kuai(tmp_path / "kuai")), WHOLE, NOW, 1)
    assert dict(zip(world.catalogue.items, world.catalogue.titles, strict=True)) == {
        "1": "red dress", "2": "item 2", "3": "item 3", "4": "item 4", "judged-4": "green hat"
    }  # fmt: skip
    assert [tuple(judgment) for judgment in world.judgments] == [("dress", "1", 3), ("dress", "judged-4", 0)]
    prices = dict(zip(world.catalogue.items, world.catalogue.prices_N.tolist(), strict=True))
    assert prices == {"1": 0, "2": 0, "3": 59, "4": 59, "judged-4": 0}


def test_a_page_that_both_files_have_is_taken_once(tmp_path):
    again = {**RANK, "user_id": 9, "session_id": 1, "query": "dress", "time_index": 100, "target_item_id": 2}
    world = open_world(str(_kuai(tmp_path / "kuai", rank=[again])), WHOLE, NOW, 1)
    assert sum(isinstance(event, Impression) for event in world.history()) == 1


@pytest.mark.parametrize(
    ("changes", "file", "field"),
    [
        ({"items": [{**ITEM, "item_id": "one"}]}, "items.jsonl", "item_id"),
        ({"users": [{**USER, "shoe": 1}]}, "users.jsonl", "shoe"),
        ({"recall": [{**RECALL, "impressed_item_ids": 3}]}, "recall.jsonl", "impressed_item_ids"),
        ({"rank": [{**RANK, "query": ""}]}, "rank.jsonl", "query"),
        ({"rank": [{**RANK, "query": None}]}, "rank.jsonl", "query"),
        ({"recall": [{**RECALL, "query": " "}]}, "recall.jsonl", "query"),
        ({"relevance": [{**SCORE, "score": 4}]}, "relevance.jsonl", "score"),
    ],
)
def test_broken_kuaisearch_files_are_named_by_row_and_field(tmp_path, changes, file, field):
    with pytest.raises(InvalidData) as caught:
        open_world(str(_kuai(tmp_path / "kuai", **changes)), WHOLE, NOW, 1)
    assert (Path(caught.value.file).name, caught.value.row, caught.value.field) == (file, 1, field)


@pytest.mark.parametrize("name", ["users", "recall", "rank", "relevance"])
def test_a_missing_kuaisearch_file_is_named(tmp_path, name):
    folder = _kuai(tmp_path / "kuai")
    (folder / f"{name}.jsonl").unlink()
    with pytest.raises(InvalidData, match=f"{name}.jsonl"):
        open_world(str(folder), WHOLE, NOW, 1)
