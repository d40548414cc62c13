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
from streams.attribution.page import entry
from streams.attribution.page import view as written
from streams.attribution.state import OpenView
from streams.runtime.core import Output

Tally = dict[str, tuple[int, int, float]]

_NOTHING = (0, 0, 0.0)

_shown = msgspec.json.Decoder(ShownItem).decode
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
    view.revision += 1
    page = view.raw
    if view.clicks or view.sent:
        now = tally(view)
        page = _counted(page, now, view.sent or {})
        view.sent = now
    record = written(page, status, view.before + view.revision, view.ts, emitted_at)
    return Output(VIEWS.name, view.user.encode(), record)


def _counted(page: bytes, now: Tally, before: Tally) -> bytes:
    """The page with the counts of its items. One that stands twice gets its interactions at its first position."""
    for item in {**before, **now}:
        clicks, orders, value = now.get(item, _NOTHING)
        clicks_before, orders_before, _ = before.get(item, _NOTHING)
        start, end = entry(page, item)
        shown = _shown(page[start:end])
        told = ViewItem(
            item, shown.position, shown.propensity, clicks, orders, value, clicks - clicks_before, orders - orders_before
        )
        page = page[:start] + _encode(told) + page[end:]
    return page


def tick(ts: int) -> Output:
    """Tells the readers of search.views that no later record of this partition is emitted before ``ts``."""
    return Output(VIEWS.name, b"", encode(Tick(ts=ts)))
