"""The search server without its web side: history, model, impression log and the threads that keep them current."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog

from reward.settings import RewardSettings
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.store import Store
from serving.batching import Batcher
from serving.clicks import ClickFollower
from serving.history import History, Recent
from serving.impressions import ImpressionLog
from serving.metrics import Metrics
from serving.pools import PoolLog
from serving.reload import Reloader, Served
from serving.replies import Replies
from serving.requests import SearchAnswer, SearchRequest, impression
from serving.settings import ServingSettings

log = structlog.get_logger()


class SearchServer:
    """An asynchronous context manager: inside it, `search` answers as soon as a checkpoint is loaded."""

    def __init__(
        self,
        connections: Connections,
        store: Store,
        artefacts: Artefacts,
        settings: ServingSettings,
        reward: RewardSettings,
    ) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.history = History(connections, settings)
        self.impressions = ImpressionLog(connections, settings.impression_timeout_s)
        self._pools = PoolLog(self.impressions, settings.pool_share, self.metrics.pools)
        self.failure: Exception | None = None  #: what ended a background thread
        self.on_failure: Callable[[], None] = lambda: None
        self.on_loaded: Callable[[], None] = lambda: None  #: called once, before the first answer
        self._stop = threading.Event()
        self._reloader = Reloader(connections, store, artefacts, settings, reward, self.metrics, self._stop, self._loaded)
        self.clicks = ClickFollower(connections, settings, self.metrics, self._stop)
        self._batcher: Batcher[SearchRequest, SearchAnswer] = Batcher(self._answer, settings.batch, settings.queue)
        self._replies = Replies(settings.replies)
        self._threads = [
            threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
            for name, work in (("reload", self._reloader.run), ("clicks", self.clicks.run))
        ]

    async def __aenter__(self) -> Self:
        import torch

        torch.set_num_threads(self.settings.threads)
        self.impressions.__enter__()
        self._batcher.start()
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self._batcher.stop()
        for thread in self._threads:
            thread.join(timeout=10.0)
        self.impressions.__exit__(kind, error, trace)
        await self.history.close()

    @property
    def served(self) -> Served:
        """What answers now.

        Raises:
            Unavailable: nothing is loaded yet, or a background thread has failed.
        """
        if self.failure is not None:
            raise Unavailable("search server", f"a background thread failed: {self.failure}", "read the server's log")
        if self._reloader.served is None:
            raise Unavailable("search server", "no checkpoint is loaded yet", "wait for /readyz")
        return self._reloader.served

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The page of a request that has passed `serving.requests.check`; its impression is in Kafka when this returns.

        A request id that was answered before gives the same page, and counts as one page view.

        Raises:
            Unavailable: no checkpoint, a full queue, or the impression is not confirmed in time.
            Conflict: the request id belongs to another search.
        """
        self.served  # noqa: B018 - refuse before the history is asked
        reply = self._replies.of(request)
        async with reply.lock:
            if reply.request is None or reply.answer is None:
                recent, notes = await self._recent(request)
                reply.request = msgspec.structs.replace(request, **recent.fields())
                answer = await self._batcher.ask(reply.request)
                reply.answer = msgspec.structs.replace(answer, notes=answer.notes + notes)
                self.metrics.truncated.inc(answer.query_truncated)
            if reply.answer.items and not reply.logged:
                await self.impressions.write(impression(reply.request, reply.answer))
                reply.logged = True
                await self._remember(reply.request)
            return reply.answer

    async def _recent(self, request: SearchRequest) -> tuple[Recent, tuple[str, ...]]:
        """The user's past. A search without it is still a search, but the answer says so, and it is counted."""
        try:
            return await self.history.recent(request.user, request.ts), ()
        except Unavailable as error:
            self.metrics.no_history.inc()
            log.warning("answered without history", request_id=request.request_id, error=str(error))
            return Recent(), ("answered without the user's history: Redis is not available",)

    async def _remember(self, request: SearchRequest) -> None:
        try:
            await self.history.asked(request.user, request.query, request.ts)
        except Unavailable as error:
            self.metrics.no_history.inc()
            log.warning("query not remembered", request_id=request.request_id, error=str(error))

    def _answer(self, batch: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """In the model thread: the whole batch under one state."""
        served = self.served
        self.metrics.batch.observe(len(batch))
        return served.engine.answer(batch, served.ordering, served.snapshot, served.snapshot_version, self._pools)

    def _loaded(self) -> None:
        self.on_loaded()

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever ends a thread ends the server, with its reason
            log.error("background thread failed", thread=name, error=str(error), exc_info=error)
            self.failure = error
            self.on_failure()
