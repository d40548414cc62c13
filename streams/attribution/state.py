"""The state of one partition of the join: open views, orders that can still be returned, and an agenda of event time.

In memory views are objects that refer to each other; a dump numbers them. Indexes and timers are not dumped: they follow
from the views, so that a state loaded under other windows takes the new ones for everything that is still open.
"""

from __future__ import annotations

from heapq import heappush
from typing import Any, Final

import msgspec

from streams.attribution.page import canonical
from streams.attribution.window import Window

#: Width of a bucket (ms of event time): what is due in it is done as a whole, once the watermark has passed its end.
BUCKET_MS = 1_000
#: Places of a bucket on the agenda; the key of a place is ``second * PLACES + phase``.
PLACES = 8


class Phase:
    """What happens in a bucket, in this order. Plain numbers: an enum's members cost a call each time they are named."""

    IMPRESSIONS: Final = 0
    CLICKS: Final = 1
    ORDERS: Final = 2
    RETURNS: Final = 3  #: the last one of accepted records; what waits in these four is pending
    CLOSES: Final = 4  #: click windows that end
    FINALS: Final = 5  #: order windows that end
    FORGETS: Final = 6  #: return windows that end


class Waiting(msgspec.Struct, array_like=True, gc=False, eq=False):
    """An accepted record that waits for its bucket; raw bytes and place are kept, in case it ends in quarantine."""

    ts: int
    id: str  #: request id, item or order id: the tie-break inside a bucket
    user: str
    offset: int
    timestamp: int  #: broker's time (ms)
    raw: bytes
    canonical: bool = False  #: see `schemas.codec.event_decoder`


class OpenView(msgspec.Struct, array_like=True, gc=False, eq=False):
    """A view whose label may still change. ``raw`` is its impression, canonical (`streams.attribution.page`); dropped at its
    close when nothing more can be emitted for it."""

    ts: int
    request_id: str
    user: str
    raw: bytes
    clicks: tuple[tuple[str, int], ...] = ()  #: (item, ts), each once
    orders: tuple[tuple[str, int, str, float], ...] = ()  #: (order id, ts, item, value left), those not returned whole
    revision: int = 0  #: of the last emission; 0 inside the click window
    sent: dict[str, tuple[int, int, float]] | None = None  #: item -> (clicks, orders, value) as last emitted
    over: bool = False  #: its order window has ended; an order that can be returned keeps it
    before: int = 0  #: revisions that the log had of it when its labels were joined anew; they count on from there


class OpenOrder(msgspec.Struct, gc=False, eq=False):
    """An order that can still be returned, or named again by a contradiction."""

    order_id: str
    ts: int
    user: str
    item: str
    value: float
    view: OpenView
    left: float  #: value that has not come back; -1 once all of it has
    returns: tuple[tuple[int, float], ...] = ()  #: (ts, value as it was told) of its returns


class Dumped(msgspec.Struct, array_like=True):
    """A state as plain data; views are numbered by their place in ``views``."""

    newest: dict[str, int]
    counters: dict[str, int]
    frontier: int
    marks: list[int]
    waiting: list[tuple[int, list[Waiting]]]  #: (place, records)
    views: list[OpenView]
    orders: list[tuple[str, int, str, str, float, int, float, tuple[tuple[int, float], ...]]]
    window: Window = msgspec.field(default_factory=Window)
    canonical: bool = False  #: whether all views' impressions are; a dump of before did not see to it


class State:
    """All of it. ``newest`` holds each topic's running maximum of event time; -1 before its first record."""

    def __init__(self, newest: dict[str, int]) -> None:
        self.newest = newest
        self.counters: dict[str, int] = {"pending": 0}
        self.frontier = 0  #: event time up to which buckets have been done (ms)
        self.window = Window()  #: what the log's integrity is judged by
        self.marks: list[int] = []  #: heap of tick times to pass on
        self.due: list[int] = []  #: heap of the places of ``agenda``
        self.agenda: dict[int, list[Any]] = {}  #: place -> records, views or orders, by the place's phase
        self.requests: dict[str, OpenView] = {}  #: until the order window ends, in order of registration
        self.recent: dict[str, list[OpenView]] = {}  #: user -> views inside their click window, oldest first
        self.clicked: dict[str, list[OpenView]] = {}  #: user -> views with clicks whose order window is open
        self.orders: dict[str, OpenOrder] = {}

    def plan(self, second: int, phase: int, what: object) -> None:
        """Put something on the agenda of a second of event time."""
        place = second * PLACES + phase
        there = self.agenda.get(place)
        if there is None:
            self.agenda[place] = [what]
            heappush(self.due, place)
        else:
            there.append(what)

    def dump(self) -> bytes:
        """As msgpack."""
        views = list(self.requests.values())
        known = {id(view) for view in views}
        for order in self.orders.values():
            if id(order.view) not in known:
                known.add(id(order.view))
                views.append(order.view)
        number = {id(view): n for n, view in enumerate(views)}
        return msgspec.msgpack.encode(
            Dumped(
                self.newest,
                self.counters,
                self.frontier,
                self.marks,
                [(place, self.agenda[place]) for place in sorted(self.agenda) if place % PLACES <= Phase.RETURNS],
                views,
                [
                    (o.order_id, o.ts, o.user, o.item, o.value, number[id(o.view)], o.left, o.returns)
                    for o in self.orders.values()
                ],
                self.window,
                canonical=True,
            )
        )


def load(data: bytes, click_ms: int, order_ms: int, return_ms: int) -> State:
    """The state that was dumped, its timers set by these windows (ms): what is overdue is due at once."""
    dumped = msgspec.msgpack.decode(data, type=Dumped)
    state = State(dumped.newest)
    state.counters, state.frontier, state.marks = dumped.counters, dumped.frontier, dumped.marks
    state.window = dumped.window

    def plan(due_ms: int, phase: int, what: object) -> None:
        state.plan(max(due_ms, state.frontier) // BUCKET_MS, phase, what)

    for place, waiting in dumped.waiting:
        state.agenda[place] = list(waiting)
        heappush(state.due, place)
    for view in dumped.views:
        if view.raw and not dumped.canonical:
            view.raw = canonical(view.raw)
        if view.over:
            continue
        state.requests[view.request_id] = view
        if view.clicks:
            state.clicked.setdefault(view.user, []).append(view)
        if view.revision:
            plan(view.ts + click_ms + order_ms, Phase.FINALS, view)
        else:
            state.recent.setdefault(view.user, []).append(view)
            plan(view.ts + click_ms, Phase.CLOSES, view)
    for name, ts, user, item, value, n, left, returns in dumped.orders:
        order = state.orders[name] = OpenOrder(name, ts, user, item, value, dumped.views[n], left, returns)
        plan(ts + return_ms, Phase.FORGETS, order)
    return state
