"""Opens a world by what is asked for: the embedded shop, or a folder, by the files that are in it."""

from __future__ import annotations

from pathlib import Path

from headrace.adapters.folder import FolderWorld
from headrace.adapters.kuaisearch import read_kuaisearch
from headrace.adapters.trivago import read_trivago
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from headrace.world import World
from schemas.errors import InvalidData, InvalidSetting


def open_world(data: str, settings: ShopSettings, now_ms: int, seed: int, items: int | None = None) -> World:
    """The world that ``data`` names: ``shop``, or a folder in one of the forms of docs/data.md.

    Args:
        items: size of the simulated catalogue; a folder has its own.

    Raises:
        InvalidSetting: no such folder, or ``items`` asked of a folder.
        InvalidData: the folder is in none of the forms, or its files are not as documented.
    """
    settings = settings.model_copy(update={"seed": seed})
    if data == "shop":
        return ShopWorld(settings if items is None else settings.model_copy(update={"items": items}), now_ms)
    folder = Path(data)
    if not folder.is_dir():
        raise InvalidSetting("data", data, "'shop' or an existing folder", "name a folder with data (docs/data.md)")
    if items is not None:
        raise InvalidSetting("items", items, "left out for data from a folder", "the folder's catalogue is used whole")
    names = {path.name for path in folder.iterdir()}
    if "items.parquet" in names:
        return FolderWorld(folder, settings, now_ms)
    if names & {"views.jsonl", "views.jsonl.zst"}:
        return read_trivago(folder, now_ms, settings)
    if "items.jsonl" in names:
        return read_kuaisearch(folder, now_ms, settings)
    known = "a folder with items.parquet, with views.jsonl(.zst), or with items.jsonl"
    raise InvalidData(data, None, "files", sorted(names)[:8], known)
