"""KuaiSearch files: items, users, what was recalled and ranked for real queries, and human relevance scores.

``time_index`` has no published unit: its order is kept and it is spread evenly over `shop.folder.history_days`. Items that the
lists name and items.jsonl lacks (it does in the published sample) get "item" and their id as title; a judged title
becomes an item of its own, since relevance.jsonl names no ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headrace.adapters.log_split import LoggedView, split_log
from headrace.adapters.logged import LoggedWorld, scattered
from headrace.adapters.reading import read_lines
from headrace.shop.settings import DAY_MS, ShopSettings
from headrace.world import Outcome
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from schemas.events import Click, Impression, Order, ShownItem

#: A page view holds at most this many items; longer recall lists are cut there, with the clicks beyond.
LONGEST_LIST = 1_000

#: Event time between a page view, its clicks and its orders (ms): the files give one time for all of them.
CLICK_AFTER_MS, ORDER_AFTER_MS = 5_000, 60_000


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    item_id: int
    item_title: str
    brand_id: int = 0
    brand_name: str = ""
    seller_id: int = 0
    seller_name: str = ""
    category_level1_id: int = 0
    category_level1_name: str = ""
    category_level2_id: int = 0
    category_level2_name: str = ""
    category_level3_id: int = 0
    category_level3_name: str = ""


class _User(msgspec.Struct, forbid_unknown_fields=True):
    user_id: int
    gender: str = ""
    age_bucket: str = ""
    fre_country: str = ""
    fre_province: str = ""
    fre_city: str = ""


class _Recall(msgspec.Struct, forbid_unknown_fields=True):
    user_id: int
    session_id: int
    query: str
    time_index: int
    impressed_item_ids: list[int]
    clicked_item_ids: list[int]
    purchased_item_ids: list[int]
    split: str = ""


class _Rank(msgspec.Struct, forbid_unknown_fields=True):
    user_id: int
    session_id: int
    query: str
    time_index: int
    target_item_id: int
    is_clicked: int
    is_purchased: int
    target_item_price: float = 0.0
    user_fan_number: int = 0
    user_follow_number: int = 0
    search_entrance: str = ""
    recently_clicked_item_ids: list[int] = []
    recently_purchased_item_ids: list[int] = []
    user_statistical_features: dict[str, float] = {}
    target_item_statistical_features: dict[str, float] = {}
    split: str = ""


class _Relevance(msgspec.Struct, forbid_unknown_fields=True):
    query: str
    item_title: str
    score: int
    brand: str = ""
    seller_name: str = ""
    attr_value: str = ""


class _Page(NamedTuple):
    time_index: int
    user: int
    session: int
    query: str
    items: list[int]
    clicked: set[int]
    purchased: set[int]


def read_kuaisearch(folder: Path, now_ms: int, settings: ShopSettings) -> LoggedWorld:
    """The files as a world. Lists of recall.jsonl come first; rank.jsonl adds the pages it alone has.

    Raises:
        InvalidData: a file is missing or a line is not as documented.
    """
    items = {row.item_id: row for _, row in read_lines(folder / "items.jsonl", _Item)}
    for _ in read_lines(folder / "users.jsonl", _User):
        pass  # nothing of it is used, but a broken file is named
    prices: dict[int, float] = {}
    pages = _pages(folder, prices)
    if not pages:
        raise InvalidData(str(folder), None, "recall.jsonl and rank.jsonl", "empty", "at least one list")
    labels = list(_labels(folder / "relevance.jsonl"))
    end_ms = now_ms - int(settings.quiet_days * DAY_MS)
    views = _views(pages, end_ms, int(settings.folder.history_days * DAY_MS), prices)
    log = split_log(list(views), settings.folder, settings.seed)
    shown = (entry.item for view in log.history + log.live for entry in view.impression.items)
    catalogue, by_title = _catalogue(items, shown, prices, labels)
    judgments = tuple(Judgment(label.query, by_title[label.item_title], label.score) for label in labels)
    return LoggedWorld(folder.name, catalogue, judgments, log)


def _pages(folder: Path, prices: dict[int, float]) -> list[_Page]:
    pages: dict[tuple[int, int, str, int], _Page] = {}
    for number, row in read_lines(folder / "recall.jsonl", _Recall):
        _check_query(folder / "recall.jsonl", number, row.query)
        if row.impressed_item_ids:
            page = _Page(row.time_index, row.user_id, row.session_id, row.query, list(dict.fromkeys(row.impressed_item_ids)),
                         set(row.clicked_item_ids), set(row.purchased_item_ids))  # fmt: skip
            pages[row.user_id, row.session_id, row.query, row.time_index] = page
    recalled = set(pages)
    for number, row in read_lines(folder / "rank.jsonl", _Rank):
        _check_query(folder / "rank.jsonl", number, row.query)
        prices[row.target_item_id] = row.target_item_price
        key = (row.user_id, row.session_id, row.query, row.time_index)
        if key in recalled:
            continue
        page = pages.setdefault(key, _Page(row.time_index, row.user_id, row.session_id, row.query, [], set(), set()))
        if row.target_item_id not in page.items:
            page.items.append(row.target_item_id)
        if row.is_clicked:
            page.clicked.add(row.target_item_id)
        if row.is_purchased:
            page.purchased.add(row.target_item_id)
    return sorted(pages.values(), key=lambda page: (page.time_index, page.user, page.session, page.query))


def _check_query(path: Path, row: int, query: str) -> None:
    if not query.strip():
        raise InvalidData(str(path), row, "query", query, "a text that is not empty")


def _labels(path: Path) -> Iterator[_Relevance]:
    for row, label in read_lines(path, _Relevance):
        if not 0 <= label.score <= 3:
            raise InvalidData(str(path), row, "score", label.score, "0 to 3")
        yield label


def _catalogue(
    items: dict[int, _Item], shown: Iterable[str], prices: dict[int, float], labels: list[_Relevance]
) -> tuple[Catalogue, dict[str, str]]:
    """The catalogue (items of the file, what is ``shown``, judged titles), and the item id of every judged title."""
    rows: dict[str, tuple[str, str, str, float]] = {}  # id -> title, category, brand, price
    for item, row in items.items():
        rows[str(item)] = (row.item_title, row.category_level1_name, row.brand_name, prices.get(item, 0.0))
    for name in shown:
        rows.setdefault(name, (f"item {name}", "", "", prices.get(int(name), 0.0)))
    by_title = {title: item for item, (title, *_) in rows.items()}
    for label in labels:
        if label.item_title not in by_title:
            by_title[label.item_title] = f"judged-{len(rows)}"
            rows[by_title[label.item_title]] = (label.item_title, "", label.brand, 0.0)
    ids = scattered(rows)
    titles, categories, brands, paid = zip(*(rows[item] for item in ids), strict=True)
    catalogue = Catalogue(
        items=tuple(ids),
        titles=titles,
        categories=categories,
        brands=brands,
        prices_N=np.array(paid, dtype=np.float32),
        available_from_N=np.zeros(len(rows), dtype=np.int64),
        attributes=tuple({"brand": brand} if brand else {} for brand in brands),
    )
    return catalogue, by_title


def _views(pages: list[_Page], end_ms: int, span_ms: int, prices: dict[int, float]) -> Iterator[LoggedView]:
    first, last = pages[0].time_index, pages[-1].time_index
    for number, page in enumerate(pages):
        ts = end_ms - span_ms + int((page.time_index - first) / max(1, last - first) * (span_ms - 2 * ORDER_AFTER_MS))
        user, request = f"u{page.user}", f"k{number}"
        shown = tuple(ShownItem(str(item), n) for n, item in enumerate(page.items[:LONGEST_LIST], start=1))
        clicks = tuple(
            Click(ts + CLICK_AFTER_MS, user, entry.item, request, entry.position)
            for entry in shown
            if int(entry.item) in page.clicked | page.purchased  # an order has a click before it
        )
        orders = tuple(
            Order(ts + ORDER_AFTER_MS, user, entry.item, f"o-{request}-{entry.item}", float(prices.get(int(entry.item), 0)))
            for entry in shown
            if int(entry.item) in page.purchased
        )
        yield LoggedView(Impression(ts, request, user, page.query, shown, str(page.session)), Outcome(clicks, orders, ()))
