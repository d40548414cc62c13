"""The rules of the join, for one phase of one bucket of event time at a time.

Ties inside a phase go by (time, id), then by offset. A record that cannot be joined is refused with its reason and counts
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from schemas.events import Click, Impression, Order, Return
from schemas.quarantine import Reason
from schemas.views import ViewStatus
from streams.attribution.emission import changed, emit
from streams.attribution.page import canonical, shows
from streams.attribution.state import BUCKET_MS, OpenOrder, OpenView, Phase, State, Waiting
from streams.runtime.core import Output
from streams.settings import AttributionSettings

# What waits was checked when it was accepted.
_impression = msgspec.json.Decoder(Impression).decode
_click = msgspec.json.Decoder(Click).decode
_order = msgspec.json.Decoder(Order).decode
_return = msgspec.json.Decoder(Return).decode

_PROVISIONAL, _FINAL, _RETRACTED = ViewStatus.PROVISIONAL.value, ViewStatus.FINAL.value, ViewStatus.RETRACTED.value
_EMITTED = {status.value: f"views.{status.value}" for status in ViewStatus}

_arrival = attrgetter("ts", "id")
_page_time = attrgetter("ts", "request_id")


class Join:
    """Settles phases on a state. ``refuse(phase, waiting, reason, detail)``, ``repeat(phase, waiting)`` for what is known
    already, and ``send(output)`` take what comes out."""

    def __init__(
        self,
        state: State,
        settings: AttributionSettings,
        refuse: Callable[[int, Waiting, Reason, str], None],
        repeat: Callable[[int, Waiting], None],
        send: Callable[[Output], None],
    ) -> None:
        self._state, self._refuse, self._repeat, self._send = state, refuse, repeat, send
        self._click_ms = settings.click_window_s * 1_000
        self._order_ms = settings.order_window_s * 1_000
        self._return_ms = settings.return_window_s * 1_000
        self._rules: tuple[Callable[[list[Any], int], None], ...] = (
            self._impressions, self._clicks, self._orders, self._returns, self._closes, self._finals, self._forgets,
        )  # fmt: skip

    def settle(self, second: int, phase: int, things: list[Any]) -> None:
        """Do what is due in that phase of that second; all of it happens before ``(second + 1) * BUCKET_MS``."""
        self._rules[phase](things, second)

    # -- accepted records -----------------------------------------------------------------------------------------

    def _impressions(self, waiting: list[Waiting], second: int) -> None:
        state = self._state
        fresh = 0
        for w in _ordered(waiting):
            known = state.requests.get(w.id)
            if known is not None:
                self._repeated(w, known)
                continue
            recent = state.recent.setdefault(w.user, [])
            # A user's views share one text of the name: that is a twentieth of the memory.
            raw = w.raw if w.canonical else canonical(w.raw)
            view = OpenView(w.ts, w.id, recent[0].user if recent else w.user, raw)
            state.requests[w.id] = view
            recent.append(view)
            state.plan(max(second, (w.ts + self._click_ms) // BUCKET_MS), Phase.CLOSES, view)
            fresh += 1
        self._count("impressions", fresh)

    def _repeated(self, waiting: Waiting, known: OpenView) -> None:
        # A repeat has the same time, so it comes before the view closes and its bytes may go: later ones are other pages.
        if waiting.raw == known.raw or (known.raw and _impression(waiting.raw) == _impression(known.raw)):
            self._repeat(Phase.IMPRESSIONS, waiting)
        else:
            self._refuse(Phase.IMPRESSIONS, waiting, Reason.CONTRADICTION, f"{waiting.id!r} is known with another content")

    def _clicks(self, waiting: list[Waiting], _: int) -> None:
        clicked, delays = self._state.clicked, self._state.window.click_delays
        for w in _ordered(waiting):
            click = _click(w.raw)
            view = self._named_view(w, click) if click.request_id else self._latest_view(w, click)
            if view is None:
                continue
            entry = (click.item, click.ts)
            if entry in view.clicks:
                self._repeat(Phase.CLICKS, w)
                continue
            delays[(click.ts - view.ts).bit_length()] += 1
            if not view.clicks:
                clicked.setdefault(view.user, []).append(view)
            view.clicks += (entry,)
            self._count("clicks")

    def _named_view(self, waiting: Waiting, click: Click) -> OpenView | None:
        view = self._state.requests.get(click.request_id)
        if view is None:
            reason, why = Reason.UNKNOWN_REQUEST, f"no open view of request {click.request_id!r}"
        elif view.user != click.user:
            reason, why = Reason.CONTRADICTION, f"request {click.request_id!r} belongs to another user"
        elif not view.ts <= click.ts <= view.ts + self._click_ms:
            reason, why = Reason.OUTSIDE_WINDOW, f"{click.ts - view.ts} ms after its view, at most {self._click_ms}"
        elif not shows(view.raw, click.item):
            reason, why = Reason.NOT_SHOWN, f"request {click.request_id!r} did not show {click.item!r}"
        else:
            return view
        self._refuse(Phase.CLICKS, waiting, reason, why)
        return None

    def _latest_view(self, waiting: Waiting, click: Click) -> OpenView | None:
        earliest = click.ts - self._click_ms
        for view in reversed(self._state.recent.get(click.user, ())):
            if earliest <= view.ts <= click.ts and shows(view.raw, click.item):
                return view
        why = f"no view of the user inside its click window shows {click.item!r}"
        self._refuse(Phase.CLICKS, waiting, Reason.NOT_SHOWN, why)
        return None

    def _orders(self, waiting: list[Waiting], second: int) -> None:
        state = self._state
        for w in _ordered(waiting):
            order = _order(w.raw)
            known = state.orders.get(order.order_id)
            if known is not None:
                self._known_order(w, order, known)
                continue
            view = self._explaining_view(order)
            if view is None:
                why = f"no click of the user on {order.item!r} in the {self._order_ms} ms before"
                self._refuse(Phase.ORDERS, w, Reason.NO_CLICK, why)
                continue
            state.window.order_delays[(order.ts - view.ts).bit_length()] += 1
            view.orders += ((order.order_id, order.ts, order.item, order.value),)
            held = OpenOrder(order.order_id, order.ts, order.user, order.item, order.value, view, order.value)
            state.orders[order.order_id] = held
            state.plan(max(second, (order.ts + self._return_ms) // BUCKET_MS), Phase.FORGETS, held)
            self._count("orders")

    def _known_order(self, waiting: Waiting, order: Order, known: OpenOrder) -> None:
        if (known.ts, known.user, known.item, known.value) == (order.ts, order.user, order.item, order.value):
            self._repeat(Phase.ORDERS, waiting)
        else:
            why = f"order {order.order_id!r} is known with another content"
            self._refuse(Phase.ORDERS, waiting, Reason.CONTRADICTION, why)

    def _explaining_view(self, order: Order) -> OpenView | None:
        """The view of the user's last click on the item, if the order is inside that click's window; of clicks at one time
        that on the later view."""
        last, found = (-1, -1, ""), None
        for view in self._state.clicked.get(order.user, ()):
            for item, ts in view.clicks:
                if item == order.item and ts <= order.ts and (ts, view.ts, view.request_id) > last:
                    last, found = (ts, view.ts, view.request_id), view
        return found if order.ts <= last[0] + self._order_ms else None

    def _returns(self, waiting: list[Waiting], second: int) -> None:
        touched: dict[int, OpenView] = {}
        for w in _ordered(waiting):
            event = _return(w.raw)
            order = self._state.orders.get(event.order_id)
            refused = self._why_not(event, order)
            if refused is not None:
                self._refuse(Phase.RETURNS, w, *refused)
            elif order is not None and (event.ts, event.value) in order.returns:
                self._repeat(Phase.RETURNS, w)
            elif order is not None:
                _take_back(order, event)
                touched[id(order.view)] = order.view
                self._count("returns")
        for view in sorted(touched.values(), key=_page_time):
            if view.revision and changed(view):
                self._emit(view, _RETRACTED, second)

    def _why_not(self, event: Return, order: OpenOrder | None) -> tuple[Reason, str] | None:
        if order is None:
            return Reason.UNKNOWN_ORDER, f"no open order {event.order_id!r}"
        if order.user != event.user:
            return Reason.CONTRADICTION, f"order {event.order_id!r} belongs to another user"
        if (event.ts, event.value) in order.returns:
            return None
        if order.left < 0:
            return Reason.CONTRADICTION, f"order {event.order_id!r} was returned at {order.returns[-1][0]}"
        if event.value > order.left:
            return Reason.CONTRADICTION, f"{event.value} of order {event.order_id!r} returned, {order.left} were left"
        if not order.ts <= event.ts <= order.ts + self._return_ms:
            return Reason.OUTSIDE_WINDOW, f"{event.ts - order.ts} ms after its order, at most {self._return_ms}"
        return None

    # -- windows that end: these were planned in the order of (time, id) --------------------------------------------

    def _closes(self, views: list[OpenView], second: int) -> None:
        state = self._state
        for view in views:
            self._emit(view, _PROVISIONAL, second)
            _leave(state.recent, view)
            if not view.clicks:
                # No click, so no order can come: only the request id is kept, for the reason of what still names it.
                view.raw = b""
            state.plan(max(second, (view.ts + self._click_ms + self._order_ms) // BUCKET_MS), Phase.FINALS, view)

    def _finals(self, views: list[OpenView], second: int) -> None:
        state = self._state
        for view in views:
            view.over = True
            del state.requests[view.request_id]
            if not view.clicks:
                continue
            if changed(view):
                self._emit(view, _FINAL, second)
            _leave(state.clicked, view)

    def _forgets(self, orders: list[OpenOrder], _: int) -> None:
        for order in orders:
            del self._state.orders[order.order_id]

    def _emit(self, view: OpenView, status: str, second: int) -> None:
        self._send(emit(view, status, (second + 1) * BUCKET_MS))
        self._count(_EMITTED[status])

    def _count(self, name: str, number: int = 1) -> None:
        if number:
            counters = self._state.counters
            counters[name] = counters.get(name, 0) + number


def _take_back(order: OpenOrder, event: Return) -> None:
    """``event.value`` of the order, all of it when that is 0 or all that is left."""
    view = order.view
    order.returns += ((event.ts, event.value),)
    order.left = order.left - event.value if 0 < event.value < order.left else -1.0
    # An id may name a later order too, once its first one is forgotten.
    others = tuple(entry for entry in view.orders if entry[:2] != (order.order_id, order.ts))
    view.orders = others if order.left < 0 else (*others, (order.order_id, order.ts, order.item, order.left))


def _leave(views_of: dict[str, list[OpenView]], view: OpenView) -> None:
    views = views_of[view.user]
    if len(views) == 1:
        del views_of[view.user]
    else:
        views.remove(view)


def _ordered(waiting: list[Waiting]) -> list[Waiting]:
    return waiting if len(waiting) == 1 else sorted(waiting, key=_arrival)
