"""A world that is a log: its events are replayed, nobody shops live. Adapters with a simulator add to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from headrace.context import with_context
from headrace.shop.settings import DAY_MS
from headrace.world import Event, Outcome, Request
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue


class LoggedWorld:
    """``events`` in any order, already at their moved times; the live part is empty."""

    def __init__(
        self, name: str, catalogue: Catalogue, judgments: Sequence[Judgment], events: Sequence[Event], live_ms: int
    ) -> None:
        self.name, self.catalogue, self.judgments = name, catalogue, judgments
        self._events = sorted(events, key=attrgetter("ts"))
        self.start_ms = self._events[0].ts if self._events else live_ms
        self.live_ms = self.drift_ms = self.end_ms = live_ms
        self._tier = {(judgment.query, judgment.item): judgment.tier for judgment in judgments}

    def history(self) -> Iterator[Event]:
        """The log in time order, with each user's recent past in the impressions."""
        return with_context(self._events)

    def requests(self) -> Iterator[Request]:
        """None: a log answers no new searches."""
        return iter(())

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """A log cannot say what people would have done.

        Raises:
            InvalidValue: always.
        """
        raise InvalidValue("data", self.name, "a world with a simulator", "add a simulate.py, or only replay the log")

    def tiers(self, query: str, items: Sequence[str]) -> NDArray[np.int8]:
        """Judged tiers [N]; 0 for pairs without a judgment."""
        return np.array([self._tier.get((query, item), 0) for item in items], dtype=np.int8)

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """A log does not know it.

        Raises:
            InvalidValue: always.
        """
        raise InvalidValue("data", self.name, "a world with a simulator", "add a simulate.py, or only replay the log")


def shift_ms(end_ms: int, now_ms: int, quiet_days: float) -> int:
    """By how much to move a time line that ends at ``end_ms``: whole days, to end ``quiet_days`` or more before now."""
    return (now_ms - int(quiet_days * DAY_MS) - end_ms) // DAY_MS * DAY_MS
