"""Real hotel lists (trivago, RecSys Challenge 2019): views with their shown items, clicks and click-outs on them.

There is no text: a view's query is what its user last searched for, an item's title is "hotel" and its id. A first
interaction of a view with an item is its click; a click-out is a click and, as the log's conversion, an order. Clicks that
belong to no list are left out: nobody knows what was shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from headrace.adapters.log_split import LoggedView, split_log
from headrace.adapters.logged import LoggedWorld, scattered, shift_ms
from headrace.adapters.reading import one_of, read_lines
from headrace.shop.settings import ShopSettings
from headrace.world import Outcome
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from schemas.events import Click, Impression, Order, ShownItem


class _View(msgspec.Struct, forbid_unknown_fields=True):
    view: int
    ts: int
    user: str
    session: str
    items: list[int]
    prices: list[float]
    city: str = ""
    platform: str = ""
    device: str = ""
    filters: list[str] = []
    context: dict[str, str] = {}


class _Query(msgspec.Struct, tag_field="type", tag="query", forbid_unknown_fields=True):
    ts: int
    user: str
    session: str
    kind: str
    text: str
    city: str = ""


class _Impression(msgspec.Struct, tag_field="type", tag="impression", forbid_unknown_fields=True):
    ts: int
    user: str
    session: str
    view: int


class _Click(msgspec.Struct, tag_field="type", tag="click", forbid_unknown_fields=True):
    ts: int
    user: str
    session: str
    kind: str
    item: int
    view: int | None = None
    pos: int = 0


class _Clickout(msgspec.Struct, tag_field="type", tag="clickout", forbid_unknown_fields=True):
    ts: int
    user: str
    session: str
    item: int
    view: int | None = None
    pos: int = 0
    price: float = 0.0


_Line = _Query | _Impression | _Click | _Clickout


def read_trivago(folder: Path, now_ms: int, settings: ShopSettings) -> LoggedWorld:
    """The log as a world; its catalogue is every item that a used view shows, without text or tiers.

    Raises:
        InvalidData: a file is missing or a line is not as documented.
    """
    path = one_of(folder, "views.jsonl.zst", "views.jsonl")
    views: dict[int, _View] = {}
    for row, view in read_lines(path, _View):
        _check_view(path, row, view, views)
        views[view.view] = view
    if not views:
        raise InvalidData(str(path), None, "views", "empty", "at least one view")
    events_path = one_of(folder, "events.jsonl.zst", "events.jsonl")
    lines = list(read_lines(events_path, _Line))
    end = max([view.ts for view in views.values()] + [line.ts for _, line in lines]) + 1
    shift = shift_ms(end, now_ms, settings.quiet_days)
    clicks, orders = _interactions(events_path, lines, views, shift)
    logged = [
        LoggedView(_impression(view, shift), Outcome(tuple(clicks[number]), tuple(orders[number]), ()))
        for number, view in views.items()
    ]
    log = split_log(logged, settings.folder, settings.seed)
    used = {view.impression.request_id for view in log.history + log.live}
    catalogue = _catalogue(view for view in views.values() if _request_id(view.view) in used)
    return LoggedWorld(folder.name, catalogue, (), log)


def _check_view(path: Path, row: int, view: _View, views: dict[int, _View]) -> None:
    if view.view in views:
        raise InvalidData(str(path), row, "view", view.view, "an id that no earlier row has")
    if not view.items or len(set(view.items)) < len(view.items):
        raise InvalidData(str(path), row, "items", view.items, "at least one item, none of them twice")
    if len(view.prices) != len(view.items):
        raise InvalidData(str(path), row, "prices", len(view.prices), f"as many as items ({len(view.items)})")


def _text(view: _View) -> str:
    for kind in ("destination", "poi"):
        if text := view.context.get(kind):
            return text
    if item := view.context.get("item"):
        return f"hotel {item}"
    return view.city or "anywhere"


def _impression(view: _View, shift: int) -> Impression:
    shown = tuple(ShownItem(str(item), n) for n, item in enumerate(view.items, start=1))
    return Impression(
        view.ts + shift, _request_id(view.view), view.user, _text(view), shown, view.session,
        segment=view.device, market=view.platform,
    )  # fmt: skip


def _request_id(view: int) -> str:
    return f"v{view}"


def _interactions(
    path: Path, lines: list[tuple[int, _Line]], views: dict[int, _View], shift: int
) -> tuple[defaultdict[int, list[Click]], defaultdict[int, list[Order]]]:
    """First clicks and first click-outs of each view, by view and in the file's order."""
    clicks: defaultdict[int, list[Click]] = defaultdict(list)
    orders: defaultdict[int, list[Order]] = defaultdict(list)
    clicked: set[tuple[int, int]] = set()
    ordered: set[tuple[int, int]] = set()
    for row, line in lines:
        if not isinstance(line, _Click | _Clickout) or line.view is None:
            continue
        if line.view not in views:
            raise InvalidData(str(path), row, "view", line.view, "one of the views file")
        if line.item not in views[line.view].items:
            raise InvalidData(str(path), row, "item", line.item, f"shown by view {line.view}")
        pair, ts, item, request = (line.view, line.item), line.ts + shift, str(line.item), _request_id(line.view)
        if pair not in clicked:
            clicked.add(pair)
            position = views[line.view].items.index(line.item) + 1
            clicks[line.view].append(Click(ts, line.user, item, request, position))
        if isinstance(line, _Clickout) and pair not in ordered:
            ordered.add(pair)
            orders[line.view].append(Order(ts + 1, line.user, item, f"o-{request}-{item}", line.price))
    return clicks, orders


def _catalogue(views: Iterable[_View]) -> Catalogue:
    price = {str(item): price for view in views for item, price in zip(view.items, view.prices, strict=True)}
    items = scattered(price)
    n = len(items)
    return Catalogue(
        items=tuple(items),
        titles=tuple(f"hotel {item}" for item in items),
        categories=("hotel",) * n,
        brands=("",) * n,
        prices_N=np.array([price[item] for item in items], dtype=np.float32),
        available_from_N=np.zeros(n, dtype=np.int64),
        attributes=({"entity": "hotel"},) * n,
    )
