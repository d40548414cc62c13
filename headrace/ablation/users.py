"""What a user did lately, in memory: what `serving.history` keeps in Redis, by the same rules."""

from __future__ import annotations

from collections import defaultdict

from headrace.world import Event
from schemas.events import Click, Impression, Order
from serving.history import Recent
from serving.settings import EngineSettings


class Users:
    """Recent queries, clicked and ordered items by user; a later time of the same thing wins."""

    def __init__(self, settings: EngineSettings) -> None:
        self._most: dict[type, int] = {
            Impression: settings.recent_queries,
            Click: settings.recent_items,
            Order: settings.recent_orders,
        }
        self._times: defaultdict[tuple[type, str], dict[str, int]] = defaultdict(dict)

    def did(self, event: Event) -> None:
        """Remember a search, a click or an order; it may lie in the future of the next search."""
        if isinstance(event, Impression | Click | Order):
            what = event.query if isinstance(event, Impression) else event.item
            times = self._times[type(event), event.user]
            times[what] = max(event.ts, times.get(what, event.ts))

    def recent(self, user: str, before_ms: int) -> Recent:
        """The user's past before ``before_ms``."""
        return Recent(*(self._newest(kind, user, before_ms) for kind in (Impression, Click, Order)))

    def _newest(self, kind: type, user: str, before_ms: int) -> tuple[str, ...]:
        past = sorted(((ts, what) for what, ts in self._times[kind, user].items() if ts < before_ms), reverse=True)
        return tuple(what for _, what in past[: self._most[kind]])
