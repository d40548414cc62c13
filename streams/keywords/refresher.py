"""What the keyword agent does with one impression: skip it, or have the chain of its query written."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from reward.text import normalise
from schemas.codec import decode
from schemas.errors import InvalidEvent, Unavailable
from schemas.events import Impression, Tick
from schemas.tracing import trace_id
from streams.keywords import metrics
from streams.keywords.settings import KeywordSettings
from streams.keywords.store import RedisKeywordStore
from streams.keywords.writer import KeywordWriter, WriterFailed

logger = structlog.get_logger(__name__)
T = TypeVar("T")


class Refresher:
    """Shared by the agent's concurrent tasks. A query is written when it has no chain, or an old one, or another version's.

    At least once: the record counts as read only when `take` returns. ``clock`` is wall time in ms.
    """

    def __init__(
        self,
        store: RedisKeywordStore,
        writer: KeywordWriter,
        settings: KeywordSettings,
        clock: Callable[[], int] = lambda: int(time.time() * 1_000),
    ) -> None:
        self._store, self._writer, self._settings, self._clock = store, writer, settings, clock
        self._fresh_until: OrderedDict[str, int] = OrderedDict()
        self._writing: dict[str, asyncio.Future[None]] = {}

    async def take(self, raw: bytes) -> None:
        """One record of search.impressions. A bad one is counted here; attribution puts it into quarantine."""
        try:
            event = decode(Impression | Tick, raw)
        except InvalidEvent as error:
            metrics.UNREADABLE.inc()
            await self._insist(partial(self._store.count, f"skipped.{error.reason}"))
            return
        if isinstance(event, Tick):
            return
        query = normalise(event.query)
        if not query or self._fresh_until.get(query, 0) > self._clock():
            return
        if query in self._writing:  # another task is at it; this record is done when that one is
            await asyncio.shield(self._writing[query])
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing[query] = done
        try:
            with structlog.contextvars.bound_contextvars(request_id=event.request_id, trace_id=trace_id(event.trace)):
                await self._refresh(query)
        finally:
            del self._writing[query]
            done.set_result(None)

    async def _refresh(self, query: str) -> None:
        now = self._clock()
        if await self._insist(lambda: self._store.fresh(query, self._writer.version, now)):
            metrics.CHAINS.labels("known").inc()
        else:
            try:
                with metrics.WRITE.time():
                    chain = await asyncio.wait_for(self._writer.write(query), self._settings.write_timeout_s)
            except (WriterFailed, TimeoutError) as error:
                metrics.CHAINS.labels("failed").inc()
                logger.warning("no keywords for a query", query=query, error=str(error) or "timeout")
                await self._insist(lambda: self._store.count("failed"))
                return
            await self._insist(lambda: self._store.put(chain))
            metrics.CHAINS.labels("written").inc()
        # Remembered for a tenth of the time, so that a chain that Redis lost comes back.
        self._fresh_until[query] = now + int(self._settings.refresh_after_s * 100)
        self._fresh_until.move_to_end(query)
        while len(self._fresh_until) > self._settings.remembered:
            self._fresh_until.popitem(last=False)

    async def _insist(self, ask: Callable[[], T]) -> T:
        """Ask Redis in a thread, again and again while it is away: the record waits, none is passed over."""
        while True:
            try:
                return await asyncio.to_thread(ask)
            except Unavailable as error:
                logger.warning("waiting for Redis", error=str(error))
                await asyncio.sleep(self._settings.retry_s)
