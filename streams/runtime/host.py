"""Keeps the slots of one process: takes chunks, follows rebalances, ends when the log is no longer ours."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Mapping, Sequence
from threading import Event

import structlog
from faust.types import TP

from schemas.connections import Connections
from schemas.errors import HeadraceError
from schemas.store import Store
from streams.runtime import metrics
from streams.runtime.core import Agent
from streams.runtime.faust_internals import Chunk, ChunkApp
from streams.runtime.log import LogReader
from streams.runtime.slot import Slot
from streams.runtime.writer import TransactionWriter
from streams.settings import RuntimeSettings

logger = structlog.get_logger(__name__)


class Host:
    """All state partitions that this process owns. ``ended`` is set with the failure that must end the process."""

    def __init__(
        self, app: ChunkApp, agents: Sequence[Agent], connections: Connections, store: Store, settings: RuntimeSettings
    ) -> None:
        self._app, self._store, self._settings = app, store, settings
        self._connections, self._partitions = connections, connections.partitions
        self._agents = {agent.name: agent for agent in agents}
        self.slots: dict[tuple[str, int], Slot] = {}
        self._flushers: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._paused: set[TP] = set()
        self._stopping = Event()
        self._reader = LogReader(connections, settings.recovery_timeout_s, self._stopping)
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()

    def fail(self, error: BaseException) -> None:
        """Remember the first failure; the process is to end."""
        if self.failure is None:
            # As text: a renderer that shows local variables would put users' events into the log.
            trace = "" if isinstance(error, HeadraceError) else "".join(traceback.format_exception(error))
            logger.error("worker fails", error=str(error), kind=type(error).__name__, trace=trace)
            self.failure = error
        self.ended.set()

    # -- chunks ---------------------------------------------------------------------------------------------------

    async def take(self, agent: str, tp: TP, chunk: Chunk) -> None:
        """One chunk for one agent; waits while too many outputs are unsent."""
        try:
            await self._take(agent, tp, chunk)
        except Exception as error:  # noqa: BLE001 - Faust would start the agent anew behind the chunk; the process may not go on
            self.fail(error)

    async def _take(self, agent: str, tp: TP, chunk: Chunk) -> None:
        key = (agent, tp.partition)
        slot = self.slots.get(key)
        if slot is None or self.failure is not None:
            return  # of a partition that has been taken away
        await slot.roomy.wait()
        if self.slots.get(key) is not slot:
            return
        if not slot.take(tp.topic, chunk.start, chunk.records, chunk.end) and not self._app.consumer.is_stale(tp, chunk):
            metrics.GAPS.labels(agent, str(tp.partition)).inc()
            logger.warning(
                "gap, seeking back", agent=agent, topic=tp.topic, partition=tp.partition, wanted=slot.next[tp.topic]
            )
            await self._app.consumer.seek_to({tp: self.wanted()[tp]})
        self._pace(slot)

    def _pace(self, slot: Slot) -> None:
        """Pause the inputs that have run ahead, so that a catch-up does not fill the memory; let the others go on. An input that
        several agents read waits for each of them."""
        beside = [one for one in self.slots.values() if one.partition == slot.partition]
        ahead = {TP(topic, slot.partition) for one in beside for topic in one.ahead()}
        paused = {tp for tp in self._paused if tp.partition == slot.partition}
        if ahead - paused:
            self._app.consumer.pause_partitions(ahead - paused)
        if paused - ahead:
            self._app.consumer.resume_partitions(paused - ahead)
        self._paused = (self._paused - paused) | ahead

    def wanted(self) -> Mapping[TP, int]:
        """Where each input partition is to be read from: the least that any agent's slot wants."""
        positions: dict[TP, int] = {}
        for slot in self.slots.values():
            for topic, offset in slot.next.items():
                tp = TP(topic, slot.partition)
                positions[tp] = min(offset, positions.get(tp, offset))
        return positions

    # -- rebalance ------------------------------------------------------------------------------------------------

    async def revoked(self, gone: Iterable[TP]) -> None:
        """Write what has been taken, before somebody else may own it."""
        partitions = {tp.partition for tp in gone}
        await self._flush_all([slot for slot in self.slots.values() if slot.partition in partitions])
        self._paused = {tp for tp in self._paused if tp.partition not in partitions}

    async def assigned(self, present: Iterable[TP]) -> None:
        """Keep the slots whose last commit is still their own; recover the others."""
        try:
            await self._settle(set(present))
        except Exception as error:  # noqa: BLE001 - Faust would swallow it; the process must end with it
            if not self._stopping.is_set():  # a recovery that a stop cuts short has lost nothing
                self.fail(error)

    async def _settle(self, present: set[TP]) -> None:
        wanted = {
            (agent.name, tp.partition): agent
            for agent in self._agents.values()
            for tp in present
            if tp.topic == agent.inputs[0].name
        }
        for key in [key for key in self.slots if key not in wanted]:
            await self._drop(key)
        fresh: list[Slot] = []
        for key, agent in wanted.items():
            slot = self.slots.get(key)
            if slot is None:
                fresh.append(self._new_slot(agent, key[1]))
            elif (commit := await asyncio.to_thread(slot.standing)) is None or commit.sequence != slot.sequence:
                await self._drop(key)
                fresh.append(self._new_slot(agent, key[1]))
        # All are opened before any is recovered: an open transaction of one can hide the commits of another.
        await asyncio.gather(*(asyncio.to_thread(slot.open) for slot in fresh))
        inputs = sorted({topic.name for slot in fresh for topic in slot.agent.inputs})
        ids = await asyncio.to_thread(self._reader.topic_ids, inputs)
        await asyncio.gather(*(asyncio.to_thread(slot.recover, ids) for slot in fresh))
        if self._stopping.is_set():
            return  # `close` has written the others' last commits; nobody would end these
        for slot in fresh:
            key = (slot.agent.name, slot.partition)
            self.slots[key] = slot
            self._flushers[key] = asyncio.create_task(self._flusher(slot))

    def _new_slot(self, agent: Agent, partition: int) -> Slot:
        name, timeout_s = f"{agent.name}-{partition}", self._settings.transaction_timeout_s
        writer = TransactionWriter(self._connections, name, timeout_s, self._stopping)
        return Slot(agent, partition, self._partitions, self._reader, writer, self._store, self._settings)

    async def _drop(self, key: tuple[str, int]) -> None:
        del self.slots[key]
        await self._cancel(self._flushers.pop(key))
        metrics.forget(*key)

    # -- flushes --------------------------------------------------------------------------------------------------

    async def _flusher(self, slot: Slot) -> None:
        try:
            await slot.keep_flushing()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - fenced, refused or broken: the log decides at the next start
            self.fail(error)

    async def _flush_all(self, slots: Iterable[Slot], *, snapshot: bool = False) -> None:
        # Each to its end: one partition's failure is none of the others'.
        done = await asyncio.gather(*(slot.flush(snapshot=snapshot) for slot in slots), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                self.fail(error)

    @staticmethod
    async def _cancel(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Write everything that has been taken and the states, and stop: the next start has nothing to replay, so it may be
        under other settings or other code."""
        slots, self.slots = list(self.slots.values()), {}
        if self.failure is None:
            flushing = asyncio.create_task(self._flush_all(slots, snapshot=True))
            if not (await asyncio.wait([flushing], timeout=self._settings.stop_timeout_s))[0]:
                remedy = "it goes on while the broker takes records; streams.runtime.stop_timeout_s says how long without"
                logger.warning("the last flush did not end in time", remedy=remedy)
            self._stopping.set()  # a writer whose broker takes nothing gives up
            await flushing
        self._stopping.set()  # the process waits for its threads, and they for the broker
        for task in self._flushers.values():
            await self._cancel(task)
        self._flushers.clear()
