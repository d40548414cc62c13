"""What identifiers are built on and judged by: a catalogue, the queries asked of it, and which items were clicked for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.adapters.folder_log import ClickLine, FolderLog, ImpressionLine
from headrace.adapters.opening import open_world
from headrace.adapters.tables import read_catalogue, read_items, read_queries
from headrace.settings import Settings
from headrace.world import Event
from schemas.catalogue import Catalogue
from schemas.errors import InvalidSetting
from schemas.events import Click, Impression


class Source(NamedTuple):
    """``clicks``: query -> rows of the items that were clicked for it."""

    name: str
    catalogue: Catalogue
    queries: tuple[str, ...]
    clicks: Mapping[str, frozenset[int]]


def open_source(data: str, settings: Settings, now_ms: int, seed: int, items: int | None = None) -> Source:
    """The shop, a folder, or a catalogue file. Of a folder in the form of tables the whole log is read, not the sample that a
    run replays.

    Args:
        items: size of the simulated catalogue; data of your own have theirs.

    Raises:
        InvalidSetting, InvalidData: as `headrace.adapters.opening.open_world`; a catalogue without items.
    """
    path = Path(data)
    if path.is_file():
        source = Source(path.stem, read_catalogue(path), (), {})
    elif (path / "items.parquet").is_file() and items is None:
        source = _folder(path)
    else:
        world = open_world(data, settings.shop, now_ms, seed, items)
        source = _of_events(world.name, world.catalogue, world.history())
    if not len(source.catalogue):
        raise InvalidSetting("data", data, "a catalogue with at least one item", "name another file or folder")
    return source


def _folder(path: Path) -> Source:
    catalogue, _ = read_items(path)
    text = read_queries(path).text if (path / "queries.parquet").is_file() else {}
    clicks: defaultdict[str, set[int]] = defaultdict(set)
    if (path / "stream").is_dir():
        log = FolderLog(path)
        asked = {line.imp: line.query_id for _, line in log.lines if isinstance(line, ImpressionLine)}
        for row, line in log.lines:
            if isinstance(line, ClickLine) and asked.get(line.imp) in text:
                log.check_item(row, line.item, catalogue)
                clicks[text[asked[line.imp]]].add(catalogue.row[str(line.item)])
    return Source(path.name, catalogue, tuple(sorted(set(text.values()))), _frozen(clicks))


def _of_events(name: str, catalogue: Catalogue, events: Iterable[Event]) -> Source:
    asked: dict[str, str] = {}
    clicks: defaultdict[str, set[int]] = defaultdict(set)
    for event in events:
        if isinstance(event, Impression):
            asked[event.request_id] = event.query
        elif isinstance(event, Click) and event.request_id in asked and event.item in catalogue.row:
            clicks[asked[event.request_id]].add(catalogue.row[event.item])
    return Source(name, catalogue, tuple(sorted(set(asked.values()))), _frozen(clicks))


def _frozen(clicks: Mapping[str, set[int]]) -> dict[str, frozenset[int]]:
    return {query: frozenset(rows) for query, rows in sorted(clicks.items()) if query.strip()}


def rows_of_clicks(source: Source) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Numbers of the queries with clicks, and the clicked rows of each, ascending."""
    number = {query: n for n, query in enumerate(source.queries)}
    asked = [query for query in source.clicks if query in number]
    wanted = [np.array(sorted(source.clicks[query]), dtype=np.int64) for query in asked]
    return np.array([number[query] for query in asked], dtype=np.int64), wanted
