"""A world without some of its queries: nobody logs, judges or asks them, until they are asked of what has learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.world import Event, Outcome, Request, World
from reward.judgments import Judgment
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.events import Click, Impression, Order


class WithheldWorld:
    """``world`` without a share of its queries, drawn by (seed, query); their live searches are the `probes`."""

    def __init__(self, world: World, share: float, seed: int) -> None:
        self._world, self._bound, self._seed = world, share * 2**64, seed
        self.name, self.start_ms, self.live_ms = world.name, world.start_ms, world.live_ms
        self.drift_ms, self.end_ms = world.drift_ms, world.end_ms
        self._drawn: dict[str, bool] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """The world's."""
        return self._world.notes

    @property
    def catalogue(self) -> Catalogue:
        """The world's."""
        return self._world.catalogue

    @cached_property
    def judgments(self) -> Sequence[Judgment]:
        """Labels of the queries that are not withheld."""
        return [judgment for judgment in self._world.judgments if not self.withheld(judgment.query)]

    def withheld(self, query: str) -> bool:
        """Whether a query is kept back; texts that read alike are kept back together."""
        key = normalise(query)
        if key not in self._drawn:
            digest = hashlib.blake2b(f"{self._seed}:withheld:{key}".encode(), digest_size=8).digest()
            self._drawn[key] = int.from_bytes(digest, "little") < self._bound
        return self._drawn[key]

    def history(self) -> Iterator[Event]:
        """The log without pages of withheld queries, and without what came of them."""
        hidden: set[str] = set()  # request ids, then order ids
        of_hidden: dict[tuple[str, str], bool] = {}  # whether the last click of (user, item) was on such a page
        for event in self._world.history():
            if isinstance(event, Impression):
                if self.withheld(event.query):
                    hidden.add(event.request_id)
                else:
                    asked = tuple(query for query in event.recent_queries if not self.withheld(query))
                    yield msgspec.structs.replace(event, recent_queries=asked)
            elif isinstance(event, Click):
                of_hidden[event.user, event.item] = event.request_id in hidden
                if event.request_id not in hidden:
                    yield event
            elif isinstance(event, Order) and of_hidden.get((event.user, event.item), False):
                hidden.add(event.order_id)
            elif isinstance(event, Order) or event.order_id not in hidden:
                yield event

    def requests(self) -> Iterator[Request]:
        """Live searches of the other queries."""
        return iter(self._split[0])

    def probes(self) -> Sequence[Request]:
        """Live searches for withheld queries, in time order."""
        return self._split[1]

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """See `World.feedback`."""
        return self._world.feedback(request, shown)

    def tiers(self, query: str, items: Sequence[str]) -> NDArray[np.int8]:
        """See `World.tiers`."""
        return self._world.tiers(query, items)

    def labelled(self, request: Request) -> bool:
        """See `World.labelled`."""
        return self._world.labelled(request)

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """See `World.click_probability`."""
        return self._world.click_probability(request, items)

    @cached_property
    def _split(self) -> tuple[list[Request], list[Request]]:
        kept: tuple[list[Request], list[Request]] = ([], [])
        for request in self._world.requests():
            kept[self.withheld(request.query)].append(request)
        return kept
