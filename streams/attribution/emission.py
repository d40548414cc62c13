"""What a view says at one revision: its impression, with the interactions counted per shown item.

What the join does not read is passed on as it was written: a page without interactions is never turned into objects.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from schemas.codec import encode
from schemas.events import ShownItem, Tick
from schemas.topics import VIEWS
from schemas.views import View, ViewItem
from streams.attribution.state import OpenView
from streams.runtime.core import Output

Tally = dict[str, tuple[int, int, float]]

_TEXT, _LIST, _NO_FILTER = Raw(b'""'), Raw(b"[]"), Raw(b"{}")
_NOTHING = (0, 0, 0.0)


class _Page(msgspec.Struct, gc=False):
    """What a view takes over from its impression, undecoded; the impression was checked when it was accepted."""

    query: Raw
    items: Raw
    session: Raw = _TEXT
    recent_queries: Raw = _LIST
    recent_items: Raw = _LIST
    candidates: Raw = _LIST
    checkpoint: Raw = _TEXT
    weights_version: int = 0
    snapshot_version: int = 0
    trace: Raw = _TEXT
    segment: Raw = _TEXT
    market: Raw = _TEXT
    support: int = 0
    recent_orders: Raw = _LIST
    filter: Raw = _NO_FILTER


class RawView(msgspec.Struct, gc=False, tag_field="type", tag="view"):
    """A `schemas.views.View` as it is written: the same fields in the same order, those of the page undecoded."""

    view_id: str
    request_id: str
    status: str
    revision: int
    ts: int
    emitted_at: int
    user: str
    query: Raw
    items: Raw
    session: Raw
    recent_queries: Raw
    recent_items: Raw
    candidates: Raw
    checkpoint: Raw
    weights_version: int
    snapshot_version: int
    trace: Raw
    segment: Raw
    market: Raw
    support: int
    recent_orders: Raw
    filter: Raw
    v: int = msgspec.structs.fields(View)[-1].default


class _Name(msgspec.Struct, gc=False):
    item: str


class _Names(msgspec.Struct, gc=False):
    items: list[_Name]


_page = msgspec.json.Decoder(_Page).decode
_names = msgspec.json.Decoder(_Names).decode
_items = msgspec.json.Decoder(list[ShownItem]).decode
_encode = msgspec.json.Encoder().encode


def shows(view: OpenView, item: str, text: bytes) -> bool:
    """Whether the item, ``text`` when encoded, is on the page."""
    raw = view.raw
    # Without an escape in it the page holds every item as it is, so most pages are ruled out unread.
    if text not in raw and b"\\" not in raw:
        return False
    for entry in _names(raw).items:  # noqa: SIM110 - a generator would cost more than the search
        if entry.item == item:
            return True
    return False


def tally(view: OpenView) -> Tally:
    """Item -> (clicks, orders not returned, their value), for items that have any."""
    if len(view.clicks) == 1 and not view.orders:
        return {view.clicks[0][0]: (1, 0, 0.0)}
    counts: dict[str, list[float]] = {}
    for item, _ in view.clicks:
        counts.setdefault(item, [0, 0, 0.0])[0] += 1
    for _, _, item, value in view.orders:
        count = counts.setdefault(item, [0, 0, 0.0])
        count[1] += 1
        count[2] += value
    return {item: (int(clicks), int(orders), value) for item, (clicks, orders, value) in counts.items()}


def changed(view: OpenView) -> bool:
    """Whether the label differs from the last emitted revision."""
    return tally(view) != (view.sent or {})


def emit(view: OpenView, status: str, emitted_at: int) -> Output:
    """The next revision as an output for search.views; the view remembers what was said."""
    page = _page(view.raw)
    view.revision += 1
    revision = view.before + view.revision
    items = page.items  # a `ViewItem` at its defaults is written as a `ShownItem` is
    if view.clicks or view.sent:
        now = tally(view)
        items = Raw(_encode(_counted(_items(page.items), now, view.sent or {})))
        view.sent = now
    record = RawView(
        f"{view.request_id}:{status}:{revision}", view.request_id, status, revision, view.ts, emitted_at,
        view.user, page.query, items, page.session, page.recent_queries, page.recent_items, page.candidates,
        page.checkpoint, page.weights_version, page.snapshot_version, page.trace, page.segment, page.market,
        page.support, page.recent_orders, page.filter,
    )  # fmt: skip
    return Output(VIEWS.name, view.user.encode(), _encode(record))


def _counted(items: list[ShownItem], now: Tally, before: Tally) -> list[ShownItem | ViewItem]:
    """The items with their counts. An item that stands twice on the page gets its interactions at its first position."""
    counted: list[ShownItem | ViewItem] = list(items)
    left = {**before, **now}
    for place, shown in enumerate(items):
        if shown.item not in left:
            continue
        clicks, orders, value = now.get(shown.item, _NOTHING)
        clicks_before, orders_before, _ = before.get(shown.item, _NOTHING)
        counted[place] = ViewItem(
            shown.item, shown.position, shown.propensity, clicks, orders, value,
            clicks - clicks_before, orders - orders_before,
        )  # fmt: skip
        del left[shown.item]
        if not left:
            break
    return counted


def tick(ts: int) -> Output:
    """Tells the readers of search.views that no later record of this partition is emitted before ``ts``."""
    return Output(VIEWS.name, b"", encode(Tick(ts=ts)))
