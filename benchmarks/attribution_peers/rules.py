"""The same join for one user's events, in the form that keyed engines want: what quixstreams and bytewax run.

An easier join than ours: lateness, contradictions and quarantine are left out; what cannot be joined is forgotten.
Neither engine has timers of event time for a keyed state, so a view closes at the user's next event after its window,
and the last views of each user stay open. Events wait for the watermark as ours do: topics are not read in step.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from benchmarks.attribution_peers.workload import CLICK_WINDOW_S, LATENESS_S, ORDER_WINDOW_S, RETURN_WINDOW_S, TOPICS
from schemas.events import Click, Impression, Order, Return
from schemas.views import View, ViewItem, ViewStatus

CLICK_MS, ORDER_MS, RETURN_MS = CLICK_WINDOW_S * 1_000, ORDER_WINDOW_S * 1_000, RETURN_WINDOW_S * 1_000


class Head(msgspec.Struct):
    """All that is read of an event before its time has come."""

    type: str
    ts: int


class Open(msgspec.Struct, array_like=True):
    """A view whose label may still change."""

    ts: int
    request_id: str
    raw: bytes
    clicks: list[tuple[str, int]] = []  #: (item, ts)
    orders: list[tuple[str, int, str, float]] = []  #: (order id, ts, item, value)
    revision: int = 0
    sent: dict[str, tuple[int, int]] = {}  #: item -> (clicks, orders) of the last revision
    finished: bool = False


class User(msgspec.Struct, array_like=True):
    """The state of one key."""

    waiting: list[tuple[int, bytes]] = []  #: (ts, raw), not yet below the watermark
    views: list[Open] = []  #: oldest first


class Clock:
    """Watermark of each partition: the least of its topics' newest event times, less the lateness."""

    def __init__(self) -> None:
        self._newest: dict[int, list[int]] = {}

    def see(self, topic: int, partition: int, ts: int) -> int:
        """The watermark (ms) with this event."""
        newest = self._newest.get(partition)
        if newest is None:
            newest = self._newest[partition] = [0] * len(TOPICS)
        if ts > newest[topic]:
            newest[topic] = ts
        return min(newest) - LATENESS_S * 1_000


head = msgspec.json.Decoder(Head).decode
_impression = msgspec.json.Decoder(Impression).decode
_event = msgspec.json.Decoder(Impression | Click | Order | Return).decode
_encode = msgspec.json.Encoder().encode


def step(user: User, ts: int, raw: bytes, watermark: int) -> list[bytes]:
    """Take one event, apply what the watermark has passed; the views that this emits, encoded."""
    out: list[bytes] = []
    user.waiting.append((ts, raw))
    due = [entry for entry in user.waiting if entry[0] < watermark]
    if due:
        user.waiting = [entry for entry in user.waiting if entry[0] >= watermark]
        for at, value in sorted(due):
            _expire(user, at, out)
            _apply(user, _event(value), value, out)
    _expire(user, watermark, out)
    return out


def _apply(user: User, event: Any, raw: bytes, out: list[bytes]) -> None:
    if isinstance(event, Impression):
        if not any(view.request_id == event.request_id for view in user.views):
            user.views.append(Open(event.ts, event.request_id, raw))
    elif isinstance(event, Click):
        view = _clicked_view(user, event)
        if view is not None and (event.item, event.ts) not in view.clicks:
            view.clicks.append((event.item, event.ts))
    elif isinstance(event, Order):
        _order(user, event)
    else:
        _return(user, event, out)


def _clicked_view(user: User, click: Click) -> Open | None:
    for view in reversed(user.views):
        if click.request_id and view.request_id != click.request_id:
            continue
        if view.ts <= click.ts <= view.ts + CLICK_MS and any(s.item == click.item for s in _impression(view.raw).items):
            return view
    return None


def _order(user: User, order: Order) -> None:
    best: tuple[int, Open] | None = None
    for view in user.views:
        if any(known[0] == order.order_id for known in view.orders):
            return
        for item, ts in view.clicks:
            if item == order.item and ts <= order.ts <= ts + ORDER_MS and (best is None or ts >= best[0]):
                best = ts, view
    if best is not None:
        best[1].orders.append((order.order_id, order.ts, order.item, order.value))


def _return(user: User, event: Return, out: list[bytes]) -> None:
    for view in user.views:
        for order in view.orders:
            if order[0] == event.order_id and order[1] <= event.ts <= order[1] + RETURN_MS:
                view.orders.remove(order)
                if view.revision:
                    _emit(view, ViewStatus.RETRACTED, event.ts, out)
                return


def _expire(user: User, now: int, out: list[bytes]) -> None:
    """Close, finish and forget views whose windows have ended at ``now``."""
    keep = []
    for view in user.views:
        closed, over = _second(view.ts + CLICK_MS), _second(view.ts + CLICK_MS + ORDER_MS)
        if not view.revision and closed <= now:
            _emit(view, ViewStatus.PROVISIONAL, closed, out)
        if not view.finished and view.clicks and over <= now:
            view.finished = True
            if _tallies(view) != view.sent:
                _emit(view, ViewStatus.FINAL, over, out)
        settled = view.finished and all(order[1] + RETURN_MS < now for order in view.orders)
        if view.revision and (settled or not view.clicks):
            continue
        keep.append(view)
    if len(keep) < len(user.views):
        user.views = keep


def _second(ts: int) -> int:
    """The end of that second (ms): a window ends with its second, as ours does, so that the labels can be compared."""
    return (ts // 1_000 + 1) * 1_000


def _tallies(view: Open) -> dict[str, tuple[int, int]]:
    clicks = Counter(item for item, _ in view.clicks)
    orders = Counter(item for _, _, item, _ in view.orders)
    return {item: (clicks[item], orders[item]) for item in {*clicks, *orders}}


def _emit(view: Open, status: ViewStatus, emitted_at: int, out: list[bytes]) -> None:
    page, now, before = _impression(view.raw), _tallies(view), view.sent
    view.revision += 1
    view.sent = now
    items = []
    for shown in page.items:
        clicks, orders = now.get(shown.item, (0, 0))
        sent_clicks, sent_orders = before.get(shown.item, (0, 0))
        value = sum(value for _, _, item, value in view.orders if item == shown.item) if orders else 0.0
        items.append(
            ViewItem(
                shown.item, shown.position, shown.propensity, clicks, orders, value,
                clicks - sent_clicks, orders - sent_orders,
            )
        )  # fmt: skip
    record = View(
        f"{view.request_id}:{status}:{view.revision}", view.request_id, status, view.revision, view.ts, emitted_at,
        page.user, page.query, tuple(items), page.session, page.recent_queries, page.recent_items, page.candidates,
        page.checkpoint, page.weights_version, page.snapshot_version,
    )  # fmt: skip
    out.append(_encode(record))
