"""The rules of the join, for one bucket of event time at a time.

Order inside a bucket: impressions, clicks, orders, returns, provisional closes, finals, forgotten orders; ties by
(time, id), then by offset. A record that cannot be joined is refused with its reason and counts nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from schemas.codec import decode
from schemas.events import Click, Impression, Order, Return
from schemas.quarantine import Reason
from schemas.views import ViewStatus
from streams.attribution.emission import changed, emit, shown
from streams.attribution.state import BUCKET_MS, Bucket, OpenOrder, OpenView, State, Waiting
from streams.runtime.core import Output
from streams.settings import AttributionSettings

T = TypeVar("T")


class Join:
    """Fires buckets on a state. ``refuse(waiting, reason, detail)`` and ``send(output)`` take what comes out."""

    def __init__(
        self,
        state: State,
        settings: AttributionSettings,
        refuse: Callable[[Waiting, Reason, str], None],
        send: Callable[[Output], None],
    ) -> None:
        self._state, self._refuse, self._send = state, refuse, send
        self._click_ms = settings.click_window_s * 1_000
        self._order_ms = settings.order_window_s * 1_000
        self._return_ms = settings.return_window_s * 1_000

    def fire(self, key: int, bucket: Bucket) -> None:
        """Settle the bucket ``key``; everything in it happens before ``(key + 1) * BUCKET_MS``."""
        end = (key + 1) * BUCKET_MS
        for waiting in _ordered(bucket.impressions):
            self._impression(waiting)
        for waiting in _ordered(bucket.clicks):
            self._click(waiting)
        for waiting in _ordered(bucket.orders):
            self._order(waiting)
        taken_back = {view for waiting in _ordered(bucket.returns) for view in self._return(waiting)}
        for number in self._by_time(taken_back):
            view = self._state.views[number]
            if view.revision and changed(view):
                self._emit(view, ViewStatus.RETRACTED, end)
        for number in self._by_time(bucket.closes):
            self._close(number, end)
        for number in self._by_time(bucket.finals):
            self._final(number, end)
        for order_id in sorted(bucket.forgets):
            self._forget(order_id)

    def _impression(self, waiting: Waiting) -> None:
        state = self._state
        known = state.requests.get(waiting.id)
        event: Impression = decode(Impression, waiting.raw)
        if known is not None:
            self._repeated(waiting, state.views[known].raw, Impression)
            return
        number, state.serial = state.serial, state.serial + 1
        state.views[number] = OpenView(event.ts, event.request_id, event.user, waiting.raw)
        state.requests[event.request_id] = number
        state.recent.setdefault(event.user, []).append(number)
        state.bucket(event.ts + self._click_ms).closes.append(number)
        self._count("impressions")

    def _repeated(self, waiting: Waiting, first: bytes, kind: type[Impression]) -> None:
        if waiting.raw == first or (first and decode(kind, waiting.raw) == decode(kind, first)):
            self._count("duplicates")
        else:
            self._refuse(waiting, Reason.CONTRADICTION, f"{waiting.id!r} is known with another content")

    def _click(self, waiting: Waiting) -> None:
        click: Click = decode(Click, waiting.raw)
        found = self._named_view(waiting, click) if click.request_id else self._latest_view(waiting, click)
        if found is None:
            return
        view = self._state.views[found]
        if (click.item, click.ts) in view.clicks:
            self._count("duplicates")
            return
        view.clicks.append((click.item, click.ts))
        self._state.clicked.setdefault(click.user, {}).setdefault(click.item, []).append((click.ts, found))
        self._count("clicks")

    def _named_view(self, waiting: Waiting, click: Click) -> int | None:
        number = self._state.requests.get(click.request_id)
        if number is None:
            self._refuse(waiting, Reason.UNKNOWN_REQUEST, f"no open view of request {click.request_id!r}")
            return None
        view = self._state.views[number]
        if view.user != click.user:
            self._refuse(waiting, Reason.CONTRADICTION, f"request {click.request_id!r} belongs to another user")
        elif not view.ts <= click.ts <= view.ts + self._click_ms:
            self._refuse(waiting, Reason.OUTSIDE_WINDOW, f"{click.ts - view.ts} ms after its view, at most {self._click_ms}")
        elif click.item not in shown(view):
            self._refuse(waiting, Reason.NOT_SHOWN, f"request {click.request_id!r} did not show {click.item!r}")
        else:
            return number
        return None

    def _latest_view(self, waiting: Waiting, click: Click) -> int | None:
        for number in reversed(self._state.recent.get(click.user, ())):
            view = self._state.views[number]
            if view.ts <= click.ts <= view.ts + self._click_ms and click.item in shown(view):
                return number
        self._refuse(waiting, Reason.NOT_SHOWN, f"no view of the user inside its click window shows {click.item!r}")
        return None

    def _order(self, waiting: Waiting) -> None:
        state = self._state
        order: Order = decode(Order, waiting.raw)
        known = state.orders.get(order.order_id)
        if known is not None:
            if (known.ts, known.user, known.item, known.value) == (order.ts, order.user, order.item, order.value):
                self._count("duplicates")
            else:
                self._refuse(waiting, Reason.CONTRADICTION, f"order {order.order_id!r} is known with another content")
            return
        number = self._explaining_click(order)
        if number is None:
            self._refuse(
                waiting, Reason.NO_CLICK, f"no click of the user on {order.item!r} in the {self._order_ms} ms before"
            )
            return
        view = state.views[number]
        view.orders.append((order.order_id, order.ts, order.item, order.value))
        view.holds += 1
        state.orders[order.order_id] = OpenOrder(order.ts, order.user, order.item, order.value, number)
        state.bucket(order.ts + self._return_ms).forgets.append(order.order_id)
        self._count("orders")

    def _explaining_click(self, order: Order) -> int | None:
        """The view of the user's last click on the item, if the order is inside that click's window."""
        for ts, number in reversed(self._state.clicked.get(order.user, {}).get(order.item, ())):
            if ts <= order.ts:
                return number if order.ts <= ts + self._order_ms else None
        return None

    def _return(self, waiting: Waiting) -> tuple[int, ...]:
        event: Return = decode(Return, waiting.raw)
        order = self._state.orders.get(event.order_id)
        if order is None:
            self._refuse(waiting, Reason.UNKNOWN_ORDER, f"no open order {event.order_id!r}")
        elif order.user != event.user:
            self._refuse(waiting, Reason.CONTRADICTION, f"order {event.order_id!r} belongs to another user")
        elif order.returned == event.ts:
            self._count("duplicates")
        elif order.returned >= 0:
            self._refuse(waiting, Reason.CONTRADICTION, f"order {event.order_id!r} was returned at {order.returned}")
        elif not order.ts <= event.ts <= order.ts + self._return_ms:
            self._refuse(waiting, Reason.OUTSIDE_WINDOW, f"{event.ts - order.ts} ms after its order")
        else:
            order.returned = event.ts
            self._state.views[order.view].orders.remove((event.order_id, order.ts, order.item, order.value))
            self._count("returns")
            return (order.view,)
        return ()

    def _close(self, number: int, end: int) -> None:
        state = self._state
        view = state.views[number]
        self._emit(view, ViewStatus.PROVISIONAL, end)
        recent = state.recent[view.user]
        recent.remove(number)
        if not recent:
            del state.recent[view.user]
        if not view.clicks:
            # No click, so no order can come: only the request id is kept, for the reason of what still names it.
            view.raw = b""
        state.bucket(view.ts + self._click_ms + self._order_ms).finals.append(number)

    def _final(self, number: int, end: int) -> None:
        state = self._state
        view = state.views[number]
        if changed(view):
            self._emit(view, ViewStatus.FINAL, end)
        view.over = True
        del state.requests[view.request_id]
        items = state.clicked.get(view.user, {})
        for item in {item for item, _ in view.clicks}:
            items[item] = [entry for entry in items[item] if entry[1] != number]
            if not items[item]:
                del items[item]
        if not items:
            state.clicked.pop(view.user, None)
        if not view.holds:
            del state.views[number]

    def _forget(self, order_id: str) -> None:
        order = self._state.orders.pop(order_id)
        view = self._state.views[order.view]
        view.holds -= 1
        if view.over and not view.holds:
            del self._state.views[order.view]

    def _emit(self, view: OpenView, status: ViewStatus, end: int) -> None:
        self._send(emit(view, status, end))
        self._count(f"views.{status}")

    def _count(self, name: str) -> None:
        self._state.counters[name] = self._state.counters.get(name, 0) + 1

    def _by_time(self, numbers: list[int] | set[int]) -> list[int]:
        views = self._state.views
        return sorted(numbers, key=lambda n: (views[n].ts, views[n].request_id))


def _ordered(waiting: list[Waiting]) -> list[Waiting]:
    return sorted(waiting, key=lambda w: (w.ts, w.id))
