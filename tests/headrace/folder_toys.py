"""A small folder of a shop's own data: three items, three queries, a log of three page views, a simulator."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from headrace.adapters.folder import FolderWorld
from headrace.adapters.opening import open_world
from headrace.shop.settings import DAY_MS, FolderSettings, ShopSettings

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


def write(folder: Path, simulator: bool = False, **changes: object) -> Path:
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


def opened(folder: Path, settings: ShopSettings = SETTINGS) -> FolderWorld:
    world = open_world(str(folder), settings, NOW, seed=1)
    assert isinstance(world, FolderWorld)
    return world
