"""What a view says at one revision: its impression, with the interactions counted per shown item."""

from __future__ import annotations

from collections import Counter

from schemas.codec import decode, encode
from schemas.events import Impression, Tick
from schemas.topics import VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.attribution.state import OpenView
from streams.runtime.core import Output


def shown(view: OpenView) -> frozenset[str]:
    """The items on the page."""
    return frozenset(entry.item for entry in _impression(view).items)


def tallies(view: OpenView) -> dict[str, tuple[int, int]]:
    """Item -> (clicks, orders not returned), for items that have any."""
    clicks = Counter(item for item, _ in view.clicks)
    orders = Counter(item for _, _, item, _ in view.orders)
    return {item: (clicks[item], orders[item]) for item in {*clicks, *orders}}


def changed(view: OpenView) -> bool:
    """Whether the label differs from the last emitted revision."""
    return tallies(view) != view.sent


def emit(view: OpenView, status: ViewStatus, emitted_at: int) -> Output:
    """The next revision as an output for search.views; the view remembers what was said.

    An item that stands twice on the page gets its interactions at its first position.
    """
    impression = _impression(view)
    now = tallies(view)
    view.revision += 1
    items: list[ViewItem] = []
    told: set[str] = set()
    for entry in impression.items:
        clicks, orders = (0, 0) if entry.item in told else now.get(entry.item, (0, 0))
        before_clicks, before_orders = (0, 0) if entry.item in told else view.sent.get(entry.item, (0, 0))
        told.add(entry.item)
        value = sum(value for _, _, item, value in view.orders if item == entry.item) if orders else 0.0
        items.append(
            ViewItem(
                item=entry.item,
                position=entry.position,
                propensity=entry.propensity,
                clicks=clicks,
                orders=orders,
                value=value,
                d_clicks=clicks - before_clicks,
                d_orders=orders - before_orders,
            )
        )
    view.sent = now
    record = View(
        view_id=f"{view.request_id}:{status}:{view.revision}",
        request_id=view.request_id,
        status=status,
        revision=view.revision,
        ts=view.ts,
        emitted_at=emitted_at,
        user=view.user,
        query=impression.query,
        items=tuple(items),
        session=impression.session,
        recent_queries=impression.recent_queries,
        recent_items=impression.recent_items,
        candidates=impression.candidates,
        checkpoint=impression.checkpoint,
        weights_version=impression.weights_version,
        snapshot_version=impression.snapshot_version,
    )
    return Output(VIEWS.name, view.user.encode(), encode(record))


def tick(ts: int) -> Output:
    """Tells the readers of search.views that no later record of this partition is emitted before ``ts``."""
    return Output(VIEWS.name, b"", encode(Tick(ts=ts)))


def _impression(view: OpenView) -> Impression:
    event: Impression = decode(Impression, view.raw)
    return event
