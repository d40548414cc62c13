"""Lets a world shop: its history into Kafka, then live searches at the search server in step with a logical clock.

A round: events due are delivered, ticks follow, the round's searches are answered, people react, their clicks and orders
wait for their time. Nothing of a later event time is asked before everything earlier is in Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from headrace.shop.client import Search, SearchClient
from headrace.shop.delivery import Delivery
from headrace.shop.rounds import rounds
from headrace.shop.settings import DeliverySettings
from headrace.world import Event, Request, World
from schemas.events import ItemAdded

#: Share of the live part, by either clock, at which ``on_half`` is due.
HALF: Final = 0.5


@dataclass
class LiveLog:
    """What happened. ``clock`` holds (event time ms, wall time s) pairs, one per round."""

    searches: list[Search] = field(default_factory=list)
    clock: list[tuple[int, float]] = field(default_factory=list)
    retries: int = 0  #: attempts that were not answered
    not_asked: int = 0  #: requests left when the time was over
    half_at: int | None = None  #: searches answered when ``on_half`` was called; None: there was none
    wall_s: float = 0.0

    @property
    def speed(self) -> float:
        """Event seconds per wall second, as achieved."""
        if len(self.clock) < 2 or self.wall_s == 0:
            return 0.0
        return (self.clock[-1][0] - self.clock[0][0]) / 1000 / self.wall_s


@dataclass(frozen=True)
class Progress:
    """After a round. ``share`` of the live part's event time; ``behind_s`` wall seconds behind the plan."""

    searches: int
    event_ms: int
    share: float
    behind_s: float


class Driver:
    """``sids`` gives the identifier of every item that appears later; it is announced when its time comes."""

    def __init__(
        self,
        world: World,
        delivery: Delivery,
        settings: DeliverySettings,
        sids: Mapping[str, tuple[int, ...]],
        codebook_version: str,
    ) -> None:
        self.world, self.delivery, self.settings = world, delivery, settings
        catalogue = world.catalogue
        self._arrivals = [
            ItemAdded(ts, item, title, tuple(sids[item]), codebook_version)
            for ts, item, title in sorted(
                zip(catalogue.available_from_N.tolist(), catalogue.items, catalogue.titles, strict=True), reverse=True
            )
            if ts > 0
        ]

    def replay_history(self) -> None:
        """Send the logged past up to the live border, as fast as Kafka takes it, with ticks; what lies after it waits."""
        step_ms = self.settings.tick_s * 1000
        stop = self.world.start_ms + step_ms
        for event in self.world.history():
            while event.ts > stop and stop < self.world.live_ms:
                self._advance(stop, wait=False)
                stop += step_ms
            self.delivery.offer(event)
        self._advance(self.world.live_ms)

    async def shop(
        self,
        server: str,
        minutes: float,
        on_round: Callable[[Progress], None] | None = None,
        on_half: Callable[[], None] | None = None,
    ) -> LiveLog:
        """Ask the live requests at ``server`` within about ``minutes`` of wall time.

        Args:
            on_half: called once, in a thread, when half of the live part's event time or half of ``minutes`` is over,
                whichever is first, and at the latest when nothing more is asked.

        Raises:
            Unavailable: the server did not answer a search for ``server_patience_s``, or Kafka did not take records.
        """
        log, begin = LiveLog(), time.monotonic()
        span_ms = max(1, self.world.end_ms - self.world.live_ms)

        async def half_way() -> None:
            if on_half is not None and log.half_at is None:
                log.half_at = len(log.searches)
                await asyncio.to_thread(on_half)

        async with SearchClient(server, self.settings) as client:
            groups = rounds(self.world.requests(), self.settings.concurrency, self.settings.round_span_s * 1000)
            for group in groups:
                clock_ms = group[0].ts
                share = (clock_ms - self.world.live_ms) / span_ms
                spent_s = time.monotonic() - begin
                ahead_s = share * minutes * 60 - spent_s
                if ahead_s < -(self.settings.overrun - share) * minutes * 60:
                    log.not_asked = len(group) + sum(len(rest) for rest in groups)
                    break
                await asyncio.sleep(max(0.0, ahead_s))
                await asyncio.to_thread(self._advance, clock_ms)
                log.clock.append((clock_ms, time.time()))
                if max(share, spent_s / (minutes * 60)) >= HALF:
                    await half_way()
                await self._round(client, group, log)
                if on_round is not None:
                    on_round(Progress(len(log.searches), clock_ms, share, max(0.0, -ahead_s)))
            await half_way()
        log.wall_s = time.monotonic() - begin
        return log

    def drain(self, now_ms: int) -> None:
        """Send what is still waiting and tick on to ``now_ms``, so that every window closes."""
        self._announce(now_ms)
        self.delivery.drain(now_ms)

    def _advance(self, clock_ms: int, wait: bool = True) -> None:
        self._announce(clock_ms)
        self.delivery.advance(clock_ms, wait)

    def _announce(self, clock_ms: int) -> None:
        while self._arrivals and self._arrivals[-1].ts <= clock_ms:
            self.delivery.add_item(self._arrivals.pop())

    async def _round(self, client: SearchClient, group: list[Request], log: LiveLog) -> None:
        for search in await asyncio.gather(*(client.search(request) for request in group)):
            log.searches.append(search)
            log.retries += search.attempts - 1
            if not search.shown:
                continue
            outcome = self.world.feedback(search.request, search.shown)
            for click in outcome.clicks:  # drawn for the request, given for the attempt that was answered
                self.delivery.offer(msgspec.structs.replace(click, request_id=search.request_id))
            later: tuple[Event, ...] = (*outcome.orders, *outcome.returns)
            for event in later:
                self.delivery.offer(event)
