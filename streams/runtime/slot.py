"""One state partition of one agent: its core, what it has taken, and what it has still to write.

`take` runs on the event loop, `recover` and the write of a batch in a thread; the runtime never overlaps recovery with
the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from schemas.commits import Commit
from schemas.errors import Incompatible, Unavailable
from schemas.store import Store
from streams.runtime import metrics
from streams.runtime.batch import Batch
from streams.runtime.behind import event_time
from streams.runtime.cadence import Cadence
from streams.runtime.commit_log import last_commit, snapshot
from streams.runtime.core import Agent, Blob, Core, Output, Record
from streams.runtime.heap import trim
from streams.runtime.log import LogReader
from streams.runtime.refusal import may_differ
from streams.runtime.refusals import Refusals
from streams.runtime.topic_ids import check_same
from streams.runtime.writer import TransactionWriter
from streams.settings import RuntimeSettings

logger = structlog.get_logger(__name__)


class Slot:
    """The runtime's hold on one partition of one agent."""

    def __init__(
        self, agent: Agent, partition: int, partitions: int, reader: LogReader, writer: TransactionWriter,
        store: Store, settings: RuntimeSettings,
    ) -> None:  # fmt: skip
        self.agent, self.partition = agent, partition
        self._partitions, self._reader, self._writer, self._store, self._settings = (
            partitions,
            reader,
            writer,
            store,
            settings,
        )
        self._labels = (agent.name, str(partition))
        self.core: Core = agent.build(partition)
        self.next: dict[str, int] = {}
        self.reached: dict[str, int] = {}  #: event time (ms) of what each input brought last
        self._topic_ids: dict[str, str] = {}
        self.sequence = 0
        self._outputs: list[Output] = []
        self._bytes = 0  # of their values
        self._blobs: list[Blob] = []
        self._snapshot_offset = -1
        self._cadence = Cadence(settings)
        self._refusals = Refusals(agent.name, partition)
        self._lock = asyncio.Lock()
        self._broken: Unavailable | None = None
        self.dirty = asyncio.Event()  #: something to commit
        self.urgent = asyncio.Event()  #: enough outputs to flush at once
        self.roomy = asyncio.Event()  #: outputs below the bound
        self.roomy.set()

    # -- recovery -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Fence the owner before us. Every slot of a process is opened before any reads, as an open transaction of one
        may hide the committed records of another."""
        self._writer.open(self._settings.recovery_timeout_s)

    def standing(self) -> Commit | None:
        """The last commit record of this slot in the log."""
        return last_commit(self._reader, self.agent.name, self.partition, self._partitions)

    def recover(self, topic_ids: Mapping[str, str]) -> None:
        """Become the state of the last commit: load its snapshot, replay the inputs up to it, drop the outputs. ``topic_ids``: the
        broker's, of the inputs.

        Raises:
            Corrupt: an input no longer holds what comes next, or is another topic of that name.
            Incompatible: there is something to replay and the settings are others, or the replay does not come to the committed
                counters: the code's outputs have changed.
        """
        began = time.monotonic()
        commit = self.standing()
        self._topic_ids = {t.name: topic_ids[t.name] for t in self.agent.inputs if t.name in topic_ids}
        self.core = self.agent.build(self.partition)
        self._outputs, self._bytes, self._blobs = [], 0, []
        if commit is None:
            self.next = {t.name: self._reader.bounds(t.name, self.partition)[0] for t in self.agent.inputs}
            self.sequence, self._snapshot_offset, self.reached = 0, -1, {}
            self._cadence.start(0, 0)
        else:
            check_same(commit.topic_ids, self._topic_ids)
            state, self.next, made_ms = snapshot(self._reader, commit, self._partitions)
            self._cadence.start(len(state), made_ms)
            self._check_rules(commit)
            for topic in self.agent.inputs:
                self._reader.check(topic.name, self.partition, commit.next_offsets[topic.name])
            self.core.load(state)
            self._replay(commit)
            self.sequence, self._snapshot_offset = commit.sequence, commit.snapshot_offset
            self.reached = dict(commit.reached)
            metrics.SNAPSHOT_BYTES.labels(*self._labels).set(len(state))
            metrics.COMMITTED.labels(*self._labels).set(commit.created_ms / 1_000)
            metrics.WATERMARK.labels(*self._labels).set(self.core.watermark / 1_000)
        self._refusals.start(self.core.counters)
        for event in (self.dirty, self.urgent):
            event.clear()
        self.roomy.set()
        took = time.monotonic() - began
        metrics.RECOVERY.labels(*self._labels).set(took)
        logger.info(
            "recovered", agent=self.agent.name, partition=self.partition, sequence=self.sequence,
            replayed=self._cadence.records, seconds=round(took, 3),
        )  # fmt: skip

    def _check_rules(self, commit: Commit) -> None:
        """With nothing to replay other settings are fine: nothing that was said depends on them."""
        ours, theirs = self.agent.rules, commit.rules
        if ours and theirs and ours != theirs and self.next != commit.next_offsets:
            raise Incompatible(
                f"settings of {self.agent.name}/{self.partition} at commit {commit.sequence}", theirs, ours,
                "a change of settings needs a snapshot at the switch: start it under the old ones, and stop it cleanly",
            )  # fmt: skip

    def _replay(self, commit: Commit) -> None:
        for topic in self.agent.inputs:
            start, end, taken = self.next[topic.name], commit.next_offsets[topic.name], 0
            for records in self._reader.read(topic.name, self.partition, start, end):
                self.core.apply(topic.name, records)
                self.core.advance()
                self.core.drain()
                taken += len(records)
            self.next[topic.name] = end
            if start < end:
                self._cadence.took(taken)
        self.core.advance()
        self.core.drain()
        if self.core.counters != commit.counters:
            raise Incompatible(
                f"replay of {self.agent.name}/{self.partition} up to commit {commit.sequence}",
                commit.counters, self.core.counters,
                "a change of code or settings that alters outputs needs a snapshot at the switch",
            )  # fmt: skip

    # -- the loop's side ------------------------------------------------------------------------------------------

    def take(self, topic: str, start: int, records: Sequence[Record], end: int) -> bool:
        """Apply a chunk that covers offsets ``[start, end)``. False: it begins beyond the wanted offset.

        What the core raises goes through, and nothing of the slot is written any more.
        """
        wanted = self.next[topic]
        if start > wanted:
            return False
        fresh = records if not records or records[0].offset >= wanted else [r for r in records if r.offset >= wanted]
        if len(fresh) < len(records):
            metrics.SKIPPED.labels(*self._labels).inc(len(records) - len(fresh))
        if end <= wanted:
            return True
        with self._whole():
            self.core.apply(topic, fresh)
            self.core.advance()
            outputs, blobs = self.core.drain()
        self._outputs += outputs
        self._bytes += sum(len(output.value) for output in outputs)
        self._blobs += blobs
        self.next[topic] = end
        if fresh and (ts := event_time(fresh[-1])):
            self.reached[topic] = ts
        self._cadence.took(len(fresh))
        metrics.RECORDS.labels(*self._labels, topic).inc(len(fresh))
        metrics.UNSENT.labels(*self._labels).set(len(self._outputs))
        metrics.WATERMARK.labels(*self._labels).set(self.core.watermark / 1_000)
        self.dirty.set()
        large = self._bytes >= self._settings.unsent_bytes
        if large or len(self._outputs) >= self._settings.flush_outputs:
            self.urgent.set()
        if large or len(self._outputs) >= self._settings.unsent_outputs:
            self.roomy.clear()
        return True

    def ahead(self) -> set[str]:
        """Inputs that have run too far ahead of the slowest."""
        progress = self.core.progress
        limit = min(progress.values(), default=0) + self._settings.ahead_s * 1_000
        return {topic for topic, ts in progress.items() if ts > limit}

    async def flush(self, *, snapshot: bool = False) -> None:
        """Write everything taken so far in one transaction, and the state with it when asked; nothing when there is nothing
        that the log does not have yet.

        Raises:
            Unavailable: an earlier write failed, so nothing may be written behind it; what this one's write raises goes through.
        """
        async with self._lock:
            if self._broken is not None:
                raise self._broken
            snapshot = snapshot and self._cadence.records > 0
            if not (self.dirty.is_set() or snapshot):
                return
            began = time.monotonic()
            with self._whole():
                batch = self._gather(snapshot)
                offset = await asyncio.get_running_loop().run_in_executor(None, self._write, batch)
            metrics.FLUSH.labels(*self._labels).observe(time.monotonic() - began)
            if batch.state:
                self._snapshot_offset = offset
                del batch
                await asyncio.get_running_loop().run_in_executor(None, trim)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What fails or is cut short in here leaves outputs that are in neither the slot nor the log, or half a chunk in the
        state: a later commit would count them as written."""
        try:
            yield
        except BaseException as error:
            self._broken = Unavailable(
                f"{self.agent.name}/{self.partition}",
                f"it failed before: {error!r}",
                "the next start does again what is lost",
            )
            raise

    async def keep_flushing(self) -> None:
        """Flush for ever: soon after an output, later when a chunk made none, at once when many wait; and the state when the
        last one has become old, though nothing more comes."""
        settings = self._settings
        while True:
            try:
                async with asyncio.timeout(self._cadence.left_s):
                    await self.dirty.wait()
            except TimeoutError:
                await self.flush(snapshot=True)
                continue
            waited = 0.0
            while not self.urgent.is_set() and waited < (settings.linger_ms if self._outputs else settings.quiet_ms) / 1_000:
                step = 0.01
                await asyncio.sleep(step)
                waited += step
            await self.flush()

    def _gather(self, snapshot: bool) -> Batch:
        """Take the unsent outputs, and the state when a snapshot is due. Atomic: there is no await in it."""
        due = snapshot or self._snapshot_offset < 0 or self._cadence.due or any(map(may_differ, self._outputs))
        outputs, self._outputs, self._bytes = self._outputs, [], 0
        blobs, self._blobs = self._blobs, []
        state = self.core.dump() if due else b""
        if due:
            self._cadence.dumped(len(state))
            metrics.SNAPSHOT_BYTES.labels(*self._labels).set(len(state))
        self.sequence += 1
        for event in (self.dirty, self.urgent):
            event.clear()
        self.roomy.set()
        metrics.UNSENT.labels(*self._labels).set(0)
        commit = Commit(
            agent=self.agent.name, partition=self.partition, sequence=self.sequence, next_offsets=dict(self.next),
            snapshot_offset=self._snapshot_offset, watermark=self.core.watermark, counters=dict(self.core.counters),
            created_ms=int(time.time() * 1_000), snapshot_bytes=self._cadence.state_bytes, since_snapshot=self._cadence.records,
            rules=self.agent.rules, reached=dict(self.reached), topic_ids=self._topic_ids,
        )  # fmt: skip
        return Batch(outputs, blobs, state, commit)

    def _write(self, batch: Batch) -> int:
        """In a thread."""
        place, commit = self.partition % self._partitions, batch.commit
        offset = batch.write(self._store, self._writer, place, self._settings.snapshot_part_bytes)
        metrics.OUTPUTS.labels(*self._labels).inc(len(batch.outputs))
        metrics.COMMITTED.labels(*self._labels).set(commit.created_ms / 1_000)
        self._refusals.tell(commit.counters)
        if self.agent.told is not None:
            self.agent.told(batch.outputs)
        return offset
