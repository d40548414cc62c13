"""Everything of this project that touches Faust's insides; a test pins the version and the names it relies on.

Faust hands out messages one at a time. Here one message is a *chunk*: all that one poll brought from one partition.
And the positions are ours: Faust's own commits are not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import aiokafka
import faust
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    credentials_to_aiokafka_auth,
    server_list,
)
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.threads import WorkerThread

from schemas.clients import faust_broker
from schemas.connections import Connections
from schemas.topics import Topic
from streams.runtime.core import Record
from streams.runtime.log import lost
from streams.runtime.unpacking import read_plainly, unpack_within_bounds
from streams.settings import RuntimeSettings

#: The Faust version this file was written against.
PINNED = "0.15.3"

for _noisy in ("faust", "mode", "aiokafka"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)


class Chunk(NamedTuple):
    """What one poll brought from one partition: it covers offsets ``[start, end)``, control records included, of which it may
    have nothing else. ``seeks``: how often the partition had been sought when it came."""

    start: int
    records: list[Record]
    end: int
    seeks: int


class LooseThread(WorkerThread):  # type: ignore[misc]
    """Does not hold up the end of its process: taking leave of a broker that is away lasts a minute."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True


class ChunkThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread of the consumer: reads committed records only, and waits for ``fetch_wait_ms``, not for 1.5 s."""

    Worker = LooseThread

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chain: dict[TP, int] = {}
        self._seeks: Counter[TP] = Counter()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, settings = self.app.conf, self.app.runtime_settings
        unpack_within_bounds()
        read_plainly()
        # Faust's own assignor: it gives all inputs' partition p to one worker; without tables Faust would take round-robin.
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            # Positions are sought, always: one that is not there means lost records, which may not be passed over.
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=settings.fetch_records,
            max_partition_fetch_bytes=settings.fetch_bytes,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1_000),
            session_timeout_ms=int(conf.broker_session_timeout * 1_000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1_000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1_000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1_000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            retry_backoff_ms=100,
            **credentials_to_aiokafka_auth(conf.broker_credentials),
        )

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: Any = None, max_records: Any = None
    ) -> Any:
        try:
            found = await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)
        except NoOffsetForPartitionError:
            return {}  # just assigned, and sought before anything of it is taken; nothing was fetched
        except OffsetOutOfRangeError as error:
            (((topic, partition), offset),) = error.args[0].items()
            raise lost(topic, partition, f"offset {offset} needed, and not there") from error
        # No await from here on: the positions read are those right after these records.
        subscription = consumer._fetcher._subscriptions.subscription
        assignment = subscription.assignment if subscription is not None else None
        chunks: dict[TP, Chunk] = {}
        for tp in (*found, *(self._chain.keys() - found.keys())):
            if assignment is None or tp not in assignment.tps or not assignment.state_value(tp).has_valid_position:
                continue
            records, end = found.get(tp, []), assignment.state_value(tp).position
            start = self._chain.get(tp, records[0].offset if records else end)
            # Also where marks of transactions were all there was: a commit that stood on them would later miss them as if
            # they had been records.
            if records or start < end:
                chunks[tp] = Chunk(start, records, end, self._seeks[tp])
                self._chain[tp] = end
        return chunks

    async def seek_chunks(self, positions: Mapping[TP, int]) -> None:
        """Seek, on the consumer's own thread."""
        await self.call_thread(self._seek_chunks, positions)

    async def _seek_chunks(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in positions.items():
            if tp in assigned:
                consumer.seek(tp, offset)
                self._chain[tp] = offset
                self._seeks[tp] += 1

    def is_stale(self, tp: TP, chunk: Chunk) -> bool:
        """Whether the partition has been sought since the chunk came."""
        return chunk.seeks != self._seeks[tp]

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watchdogs look at its own commits, which are not used."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """See `verify_event_path`."""


class ChunkConsumer(Consumer):  # type: ignore[misc]
    """Yields one message per partition and poll, whose value is a `Chunk`, and seeks to the positions of the state."""

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """See `faust.transport.consumer.Consumer.getmany`."""
        generation = self.app.consumer_generation_id
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(0.02)  # every partition is buffered; Faust would sleep a second
            return
        chunks, active = await self._wait_next_records(timeout)
        if chunks is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        left = set(chunks)
        for tp, chunk in chunks.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if active is None or tp in active or tp in self._buffered_partitions:
                left.discard(tp)
                yield tp, self._chunk_message(TP(tp.topic, tp.partition), chunk)
        if left and self.flow_active:
            # Fetched again now: a gap would show only when a later record came, and there may be none.
            wanted = self.app.wanted_positions()
            await self.seek_to({TP(*tp): wanted[tp] for tp in left if tp in wanted})

    def _chunk_message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        timestamp = chunk.records[-1].timestamp / 1_000.0 if chunk.records else 0.0
        return ConsumerMessage(
            tp.topic, tp.partition, chunk.end - 1, timestamp, 0, (), None, chunk, None,
            tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def perform_seek(self) -> None:
        """To the positions of the state, not to Faust's committed ones."""
        await self.seek_to(self.app.wanted_positions())

    async def seek_to(self, positions: Mapping[TP, int]) -> None:
        """Seek; what comes from before is dropped by whoever keeps the state."""
        for tp, offset in positions.items():
            self._read_offset[tp] = offset or None
        await self._thread.seek_chunks(positions)

    def is_stale(self, tp: TP, chunk: Chunk) -> bool:
        """Whether the partition has been sought since the chunk came: what it lacks is on its way."""
        return bool(self._thread.is_stale(tp, chunk))


class ChunkTransport(Transport):  # type: ignore[misc]
    """Faust's Kafka transport with our consumer."""

    Consumer = ChunkConsumer


class QuickTables(TableManager):  # type: ignore[misc]
    """There are no tables; Faust would sleep a second before it looked."""

    async def sleep(self, n: Any) -> None:
        """Do not."""
        await asyncio.sleep(0)


class ConsumerOnly(BootStrategy):  # type: ignore[misc]
    """Faust's producer is not used: transactions are written by `streams.runtime.writer`."""

    enable_kafka_producer = False
    enable_web = False


class ChunkApp(faust.App):  # type: ignore[misc]
    """A Faust app whose messages are chunks. ``wanted_positions`` says where each partition is to be read from."""

    BootStrategy = ConsumerOnly
    runtime_settings: RuntimeSettings
    wanted_positions: Callable[[], Mapping[TP, int]]

    def _new_transport(self) -> Any:
        return ChunkTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """No state is kept in files."""

    async def _producer_flush(self, logger: Any) -> None:
        """There is no producer to flush."""

    @property
    def crashed(self) -> BaseException | None:
        """What ended the app or one of its services, if anything did."""
        return self._crash_reason if self._crashed.is_set() else None


class ChunkSchema(faust.Schema):  # type: ignore[misc]
    """Passes the chunk through: decoding is the core's work."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """See `faust.Schema.compile`."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


def new_app(app_id: str, connections: Connections, settings: RuntimeSettings, instance: str | None) -> ChunkApp:
    """The app, not started. ``instance`` makes the group membership static: a restart under the same name is cheap."""
    app = ChunkApp(
        app_id,
        **faust_broker(connections),
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=settings.buffer_chunks,
        stream_recovery_delay=0.0,
        broker_session_timeout=settings.session_timeout_s,
        broker_request_timeout=max(30.0, settings.session_timeout_s),
        broker_heartbeat_interval=min(1.0, settings.session_timeout_s / 5),
        broker_rebalance_timeout=max(10.0, settings.session_timeout_s),
        consumer_group_instance_id=instance,
        TableManager=QuickTables,
        web_enabled=False,
        autodiscover=False,
    )
    app.runtime_settings = settings
    return app


def add_agent(app: ChunkApp, name: str, inputs: Iterable[Topic], take: Callable[[TP, Chunk], Awaitable[None]]) -> None:
    """A Faust agent that hands each chunk to ``take``, one at a time."""
    channel = app.topic(*(topic.name for topic in inputs), schema=ChunkSchema(), acks=False)

    async def process(stream: Any) -> None:
        async for event in stream.events():
            await take(event.message.tp, event.value)

    app.agent(channel, name=name)(process)
