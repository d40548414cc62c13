"""What a user did before a logged page view: recent queries, clicked items and ordered items, put into the impression."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from headrace.world import Event
from schemas.events import Click, Impression, Order

#: How much a logged impression carries; prompts take the newest of it.
QUERIES, ITEMS, ORDERS = 5, 10, 10


def with_context(events: Iterable[Event]) -> Iterator[Event]:
    """The same events in the same order; each impression without a context gets its user's, newest first."""
    queries: dict[str, deque[str]] = {}
    items: dict[str, deque[str]] = {}
    orders: dict[str, deque[str]] = {}
    for event in events:
        if isinstance(event, Impression):
            asked = queries.setdefault(event.user, deque(maxlen=QUERIES))
            if event.recent_queries or event.recent_items or event.recent_orders:
                yield event
            else:
                clicked, ordered = tuple(items.get(event.user, ())), tuple(orders.get(event.user, ()))
                yield msgspec.structs.replace(
                    event, recent_queries=tuple(asked), recent_items=clicked, recent_orders=ordered
                )
            asked.appendleft(event.query)
            continue
        if isinstance(event, Click):
            items.setdefault(event.user, deque(maxlen=ITEMS)).appendleft(event.item)
        elif isinstance(event, Order):
            orders.setdefault(event.user, deque(maxlen=ORDERS)).appendleft(event.item)
        yield event
