"""A folder that is not as documented: the error names file, row and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.adapters.opening import open_world
from schemas.errors import InvalidData, InvalidSetting
from tests.headrace.folder_toys import (
    EVENTS,
    ITEMS,
    JUDGMENTS,
    NOW,
    QUERIES,
    SETTINGS,
    opened,
    write,
)


def without(table: dict, name: str) -> dict:
    return {key: value for key, value in table.items() if key != name}


@pytest.mark.parametrize(
    ("changes", "file", "row", "field"),
    [
        ({"items": {**ITEMS, "colour": ["r", "g", "b"]}}, "items.parquet", None, "colour"),
        ({"items": without(ITEMS, "title")}, "items.parquet", None, "title"),
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
        ({"events": [without(EVENTS[0], "items")]}, "events.jsonl.zst", 1, "items"),
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
    folder = write(tmp_path / "mine", **changes)
    with pytest.raises(InvalidData) as caught:
        opened(folder)
    error = caught.value
    assert (Path(error.file).name, error.row, error.field) == (file, row, field)
    assert file in str(error) and field in str(error)


@pytest.mark.parametrize("name", ["queries.parquet", "judgments.parquet", "stream/events.jsonl.zst", "sim_config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = write(tmp_path / "mine", simulator=True)
    (folder / name).unlink()
    with pytest.raises(InvalidData, match=name.split("/")[-1]):
        opened(folder)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    folder = write(tmp_path / "mine")
    (folder / "items.parquet").write_bytes(b"hello")
    with pytest.raises(InvalidData, match=r"items\.parquet"):
        opened(folder)


def test_a_folder_of_no_known_form_and_a_wrong_name_say_what_would_do(tmp_path):
    with pytest.raises(InvalidSetting, match="'shop' or an existing folder"):
        open_world(str(tmp_path / "nowhere"), SETTINGS, NOW, 1)
    with pytest.raises(InvalidData, match=r"items\.parquet"):
        open_world(str(tmp_path), SETTINGS, NOW, 1)
    with pytest.raises(InvalidSetting, match="items is 50"):
        open_world(str(write(tmp_path / "mine")), SETTINGS, NOW, 1, items=50)
