"""What a view says at one revision: its impression, with the interactions counted per shown item.

What the join does not read is passed on as bytes (`streams.attribution.page`): a page without interactions is never turned
into objects.
"""

from __future__ import annotations

import msgspec

from schemas.codec import encode
from schemas.events import ShownItem, Tick
from schemas.topics import VIEWS
from schemas.views import ViewItem
from streams.attribution.page import page as page_of
from streams.attribution.page import view as written
from streams.attribution.state import OpenView
from streams.runtime.core import Output

Tally = dict[str, tuple[int, int, float]]

_NOTHING = (0, 0, 0.0)

_items = msgspec.json.Decoder(list[ShownItem]).decode
_encode = msgspec.json.Encoder().encode


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
    page = page_of(view.raw)
    view.revision += 1
    items = page.items  # a `ViewItem` at its defaults is written as a `ShownItem` is
    if view.clicks or view.sent:
        now = tally(view)
        items = _encode(_counted(_items(items), now, view.sent or {}))
        view.sent = now
    record = written(page, status, view.before + view.revision, view.ts, emitted_at, items)
    return Output(VIEWS.name, view.user.encode(), record)


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
