"""The tables of a data folder: items, queries, judgments. docs/data.md describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.adapters.reading import Column, RawId, read_table
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from serving.requests import ID_LIMIT

ITEMS = {
    "item_id": Column("id"),
    "title": Column("text"),
    "category": Column("text", required=False),
    "brand": Column("text", required=False),
    "type": Column("text", required=False),
    "price": Column("number", required=False),
    "margin": Column("number", required=False),
    "in_stock": Column("flag", required=False),
    "attrs": Column("text", required=False),
    # derived columns of the published sets
    "brand_guess": Column("text", required=False),
    "type_guess": Column("text", required=False),
    "cat1": Column("integer", required=False),
    "cat2": Column("integer", required=False),
    "cat1_name": Column("text", required=False),
    "cat2_name": Column("text", required=False),
}
#: On top of them, in a catalogue as stores keep it (`schemas.catalogue.Catalogue.save`).
STORED = ITEMS | {"available_from": Column("integer", required=False), "attributes": Column("texts", required=False)}
QUERIES = {
    "query_id": Column("id"),
    "query": Column("text"),
    "qn": Column("text", required=False),
    "split": Column("text", required=False),
    "n_judged": Column("integer", required=False),
    "n_tiers": Column("integer", required=False),
    "max_tier": Column("integer", required=False),
}
JUDGMENTS = {
    "query_id": Column("id"),
    "item_id": Column("id"),
    "tier": Column("integer"),
    "relevance": Column("number", required=False),
}

#: What `is_item_id` asks for, in words.
ITEM_ID = f"1 to {ID_LIMIT} characters, not only space, without a comma"

#: Attribute types that a plural key of ``attrs`` stands for.
ATTRIBUTES = {"sizes": "specification", "colors": "colour", "colours": "colour", "materials": "material"}


class Queries(NamedTuple):
    """Text of every query id, and the ids that are kept apart for evaluation."""

    text: dict[RawId, str]
    held_out: frozenset[RawId]


def is_item_id(item: str) -> bool:
    """Whether records can carry this id of an item, and requests and lists name it."""
    return len(item) <= ID_LIMIT and bool(item.strip()) and "," not in item


def read_items(folder: Path) -> tuple[Catalogue, dict[str, RawId]]:
    """The catalogue (nothing new in it yet), and each item's id as the data set has it.

    Raises:
        InvalidData: see `headrace.adapters.reading.read_table`; an id twice, or that is none; attributes that are not a JSON
            object; a margin outside 0 to 1.
    """
    return _items(folder / "items.parquet", ITEMS)


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file of its own: in the form of ``items.parquet``, or as stores keep it.

    Raises:
        InvalidData: as `read_items`.
    """
    return _items(path, STORED)[0]


def _items(path: Path, columns: Mapping[str, Column]) -> tuple[Catalogue, dict[str, RawId]]:
    table = read_table(path, columns)
    raw = table["item_id"]
    items = tuple(str(item) for item in raw)
    _check_unique(path, "item_id", items)
    for row, item in enumerate(items, start=1):
        if not is_item_id(item):
            raise InvalidData(str(path), row, "item_id", item, ITEM_ID)
    n = len(items)
    empty = [""] * n
    brands = table.get("brand") or table.get("brand_guess") or empty
    types = table.get("type") or table.get("type_guess") or empty
    packed = table.get("attrs") or ["{}"] * n
    catalogue = Catalogue(
        items=items,
        titles=tuple(table["title"]),
        categories=tuple(table.get("category") or table.get("cat1_name") or empty),
        brands=tuple(brands),
        prices_N=np.array(table.get("price") or np.zeros(n), dtype=np.float32),
        available_from_N=np.array(table.get("available_from") or np.zeros(n), dtype=np.int64),
        margins_N=_margins(path, table.get("margin")),
        in_stock_N=None if table.get("in_stock") is None else np.array(table["in_stock"], dtype=np.bool_),
        attributes=tuple(map(_named, table["attributes"]))
        if "attributes" in table
        else tuple(
            _attributes(path, row, text, brand, type_)
            for row, (text, brand, type_) in enumerate(zip(packed, brands, types, strict=True), start=1)
        ),
    )
    return catalogue, dict(zip(items, raw, strict=True))


def read_queries(folder: Path) -> Queries:
    """Texts by query id.

    Raises:
        InvalidData: see `read_table`; an id twice; an empty text.
    """
    path = folder / "queries.parquet"
    table = read_table(path, QUERIES)
    _check_unique(path, "query_id", table["query_id"])
    for row, text in enumerate(table["query"], start=1):
        if not text.strip():
            raise InvalidData(str(path), row, "query", text, "a text that is not empty")
    splits = table.get("split") or ["train"] * len(table["query"])
    held_out = (query for query, split in zip(table["query_id"], splits, strict=True) if split != "train")
    return Queries(dict(zip(table["query_id"], table["query"], strict=True)), frozenset(held_out))


def read_judgments(folder: Path, queries: Queries, catalogue: Catalogue) -> tuple[list[Judgment], list[Judgment]]:
    """Labels of (ordinary, held-out) queries.

    Raises:
        InvalidData: see `read_table`; a query or an item that the other tables lack; a tier outside 0..3.
    """
    path = folder / "judgments.parquet"
    table = read_table(path, JUDGMENTS)
    ordinary: list[Judgment] = []
    held_out: list[Judgment] = []
    for row, (query, item, tier) in enumerate(zip(table["query_id"], table["item_id"], table["tier"], strict=True), start=1):
        if query not in queries.text:
            raise InvalidData(str(path), row, "query_id", query, "in queries.parquet")
        if str(item) not in catalogue.row:
            raise InvalidData(str(path), row, "item_id", item, "in items.parquet")
        if not 0 <= tier <= 3:
            raise InvalidData(str(path), row, "tier", tier, "0 to 3")
        target = held_out if query in queries.held_out else ordinary
        target.append(Judgment(queries.text[query], str(item), tier))
    return ordinary, held_out


def _margins(path: Path, margins: list[float] | None) -> NDArray[np.float32] | None:
    for row, margin in enumerate(margins or (), start=1):
        if not 0 <= margin <= 1:
            raise InvalidData(str(path), row, "margin", margin, "0 to 1, part of the price")
    return None if margins is None else np.array(margins, dtype=np.float32)


def _attributes(path: Path, row: int, packed: str, brand: str, type_: str) -> dict[str, str]:
    try:
        fields = msgspec.json.decode(packed or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidData(str(path), row, "attrs", packed, "a JSON object") from error
    named = {"entity": type_, "brand": brand}
    for key, value in fields.items():
        first = value[0] if isinstance(value, list) and value else value
        named[ATTRIBUTES.get(key, key)] = str(first) if isinstance(first, str | int | float) else ""
    return _named(named.items())


def _named(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    return {key: value for key, value in pairs if value}


def _check_unique(path: Path, name: str, values: Any) -> None:
    seen: set[Any] = set()
    for row, value in enumerate(values, start=1):
        if value in seen:
            raise InvalidData(str(path), row, name, value, "an id that no earlier row has")
        seen.add(value)
