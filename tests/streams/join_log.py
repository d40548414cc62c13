"""A log that a join is fed with in turn, its events made in a word each. Times are seconds after `T`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.events import Click, Impression, Order, Return, ShownItem, Tick
from schemas.quarantine import Quarantined
from schemas.topics import CLICKS, IMPRESSIONS, ORDERS, QUARANTINE, VIEWS
from schemas.views import View
from streams.attribution.core import AttributionCore
from streams.runtime.core import Output, Record
from streams.settings import AttributionSettings

#: A multiple of 60 s, so that ticks fall on whole minutes after it.
T = 1_000_000_020_000
RULES = AttributionSettings(click_window_s=1_800, order_window_s=86_400, return_window_s=259_200, lateness_s=120)


class Log:
    """A core, fed in turn; the broker's time of a record is its event's own, or ``broker``."""

    def __init__(self, core: AttributionCore | None = None) -> None:
        self.core, self.offset, self.out = core or AttributionCore(0, RULES), 0, list[Output]()

    def __call__(self, *events: msgspec.Struct, broker: int = T + 10**9) -> Log:
        for event in events:
            topic = IMPRESSIONS if isinstance(event, Impression) else CLICKS if isinstance(event, Click) else ORDERS
            self.raw(topic.name, msgspec.json.encode(event), broker)
        return self

    def raw(self, topic: str, raw: bytes, broker: int = T + 10**9) -> None:
        self.core.apply(topic, [Record(self.offset, broker, b"u", raw)])
        self.offset += 1

    def until(self, seconds: int) -> Log:
        """All inputs tick at that time, the watermark follows 120 s behind."""
        for topic in (IMPRESSIONS, CLICKS, ORDERS):
            self.raw(topic.name, msgspec.json.encode(Tick(T + seconds * 1_000)))
        self.core.advance()
        self.out += self.core.drain()[0]
        return self

    @property
    def views(self) -> list[View]:
        said = [msgspec.json.decode(o.value, type=View | Tick) for o in self.out if o.topic == VIEWS.name]
        return [v for v in said if isinstance(v, View)]

    @property
    def reasons(self) -> list[str]:
        self.out += self.core.drain()[0]
        return [msgspec.json.decode(o.value, type=Quarantined).reason for o in self.out if o.topic == QUARANTINE.name]


def view(request: str = "r", at: int = 0, items: Sequence[str] = ("a", "b"), user: str = "u") -> Impression:
    return Impression(T + at * 1_000, request, user, "shoes", tuple(ShownItem(i, n + 1, 0.5) for n, i in enumerate(items)))


def click(item: str, at: int, request: str = "", user: str = "u") -> Click:
    return Click(T + at * 1_000, user, item, request)


def order(item: str, at: int, name: str = "o", value: float = 5.0, user: str = "u") -> Order:
    return Order(T + at * 1_000, user, item, name, value)


def back(name: str, at: int, user: str = "u", value: float = 0.0) -> Return:
    return Return(T + at * 1_000, user, name, value)


def told(log: Log) -> list[tuple[str, int, dict[str, tuple[int, int, int, int]]]]:
    """(view id, emitted at in s, item -> (clicks, orders, d_clicks, d_orders) where any)."""
    return [
        (
            v.view_id,
            (v.emitted_at - T) // 1_000,
            {i.item: n for i in v.items if any(n := (i.clicks, i.orders, i.d_clicks, i.d_orders))},
        )
        for v in log.views
    ]
