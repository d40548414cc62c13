"""Endless true events of a made-up shop, seeded: page views of 10 items with the clicks, orders and returns that follow.

Cheap on purpose (some 20 us an event): the simulated shop's people think longer than a worker joins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from headrace.world import Event
from schemas.events import Click, Impression, Order, Return, ShownItem
from streams.settings import AttributionSettings

USERS, ITEMS, QUERIES, PAGE = 50_000, 5_000, 2_000, 10
CLICK_SHARE, ORDER_SHARE, RETURN_SHARE = 0.1, 0.1, 0.2  #: of shown items, clicks, orders


class Traffic:
    """Makes one page view at a time. Waiting times are exponential, a sixth of their window in the mean: about one event
    in 400 comes after its window."""

    def __init__(self, seed: int, rules: AttributionSettings, users: int = USERS) -> None:
        self._rng = random.Random(seed)
        self._users = users
        self._waits_ms = [s * 1_000 / 6 for s in (rules.click_window_s, rules.order_window_s, rules.return_window_s)]
        self._made = 0

    def view(self, ts: int) -> list[Event]:
        """A page view at ``ts`` (ms) and all that follows from it, in no order of time between users."""
        return list(self._view(ts))

    def _view(self, ts: int) -> Iterator[Event]:
        rng, number = self._rng, self._made
        self._made += 1
        # Of one width: the ten-millionth would otherwise need one byte more than fits an allocator's size class, and an hour into
        # a soak the same state would take a twentieth more memory.
        user, request = f"user-{rng.randrange(self._users)}", f"request-{number:012d}"
        first, step = rng.randrange(ITEMS), rng.randrange(1, ITEMS // PAGE)
        items = [f"item-{(first + step * n) % ITEMS}" for n in range(PAGE)]
        shown = tuple(ShownItem(item, n + 1, 0.5) for n, item in enumerate(items))
        yield Impression(ts, request, user, f"query number {int(QUERIES * rng.random() ** 3)}", shown)
        for item in items:
            if rng.random() < CLICK_SHARE:
                clicked = ts + self._after(0)
                yield Click(clicked, user, item, request)
                if rng.random() < ORDER_SHARE:
                    ordered, order = clicked + self._after(1), f"order-{number:012d}-{item}"
                    yield Order(ordered, user, item, order, 9.5)
                    if rng.random() < RETURN_SHARE:
                        yield Return(ordered + self._after(2), user, order)

    def _after(self, window: int) -> int:
        return 1 + int(self._rng.expovariate(1 / self._waits_ms[window]))
