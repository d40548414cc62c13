"""The keyword worker: an ordinary asynchronous Faust agent on search.impressions, at least once, with bounded concurrency.

It talks to the outside (Redis, perhaps a language model), so it is no pure core: its writes are idempotent under a
version instead. A second agent follows posteriors.snapshots, so that the writer knows the newest click statistics.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import faust
import structlog
from faust.exceptions import ConsumerNotStarted

from reward.lexicon import Lexicon, build_lexicon
from reward.snapshot import PosteriorSnapshot
from schemas.admission import admit_redis
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.clients import faust_broker, redis_client
from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Corrupt, Incompatible, InvalidEvent, Unavailable
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import IMPRESSIONS, SNAPSHOTS
from streams.keywords import metrics
from streams.keywords.refresher import Refresher
from streams.keywords.settings import GROUP, KeywordSettings
from streams.keywords.store import RedisKeywordStore
from streams.keywords.writer import CatalogueWriter, KeywordWriter
from streams.runtime import metrics as runtime_metrics
from streams.runtime.instance import hold_instance, tell_of_others
from streams.runtime.process import await_topics
from streams.settings import RuntimeSettings

logger = structlog.get_logger(__name__)


def run(
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: KeywordSettings | None = None,
    writer: KeywordWriter | None = None,
    app_id: str = GROUP,
    instance: str | None = None,
    runtime: RuntimeSettings | None = None,
) -> int:
    """Run until SIGTERM or SIGINT (returns 0) or a failure (returns 1).

    ``writer`` takes the place of the catalogue's own. ``app_id`` is the consumer group; ``instance``, when given, a name
    of this process in it that no other has at the same time: a restart under it takes its partitions back at once.
    Of ``runtime`` the metrics are used.

    Raises:
        Conflict: another process of this machine has that name.
        Unavailable: the broker or the topics do not come up, the broker or Redis do not let us in (`Refused`), or the catalogue is not in the store.
    """
    settings = settings or KeywordSettings()
    runtime = runtime or RuntimeSettings()
    with hold_instance(connections, app_id, instance), redis_client(connections) as client:
        runtime_metrics.listen(runtime.metrics_host, runtime.metrics_port)
        writer = writer or catalogue_writer(store, artefacts, settings)
        await_topics(connections, (), 300.0)  # topics are made together; sending to or reading a missing one blocks
        tell_of_others(connections, app_id, instance)
        admit_redis(connections)
        refresher = Refresher(RedisKeywordStore(client, settings), writer, settings)
        build = partial(new_app, connections, settings, app_id, instance)
        watch = (
            partial(metrics.watch_lag, connections, app_id, every_s=runtime.lag_every_s) if runtime.metrics_port else None
        )
        return asyncio.run(_serve(build, store, refresher, writer, settings.concurrency, watch))


def catalogue_writer(store: Store, artefacts: Artefacts, settings: KeywordSettings) -> CatalogueWriter:
    """The default writer, on the lexicon of the run's identifiers (or one built from the catalogue, before they exist)."""
    catalogue = Catalogue.load(store)
    path = f"identifiers/{artefacts.identifiers}/lexicon.json"
    known = bool(artefacts.identifiers)
    lexicon = Lexicon.from_bytes(store.read(path), path) if known else build_lexicon(catalogue)
    return CatalogueWriter(catalogue, lexicon, settings.writer)


class FilelessApp(faust.App):  # type: ignore[misc]
    """Faust would make folders for tables in the working directory; there are no tables."""

    def _create_directories(self) -> None:
        """No state is kept in files."""


def new_app(connections: Connections, settings: KeywordSettings, app_id: str, instance: str | None) -> Any:
    """The Faust app, not started: its own consumer and commits, no tables, no web server."""
    return FilelessApp(
        app_id,
        **faust_broker(connections),
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=max(256, 4 * settings.concurrency),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(1.0, settings.session_timeout_s / 5),
        broker_rebalance_timeout=max(10.0, settings.session_timeout_s),
        consumer_group_instance_id=instance,
        web_enabled=False,
        autodiscover=False,
    )


async def _serve(
    build: Callable[[], Any], store: Store, refresher: Refresher, writer: KeywordWriter, concurrency: int,
    watch: Callable[[Callable[[], set[int]]], Awaitable[None]] | None,
) -> int:  # fmt: skip
    app = build()  # inside the loop: Faust binds to it
    stop = asyncio.Event()
    failures: list[BaseException | None] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async def keywords(stream: Any) -> None:
        # Acknowledged by hand: Faust would take a record that failed, or was cut off by the end, for read.
        async for event in stream.noack().events():
            place = event.message.tp
            runtime_metrics.RECORDS.labels(metrics.AGENT, str(place.partition), place.topic).inc()
            try:
                await refresher.take(event.value)
            except Exception as error:
                failures.append(error)
                stop.set()
                raise
            event.ack()

    async def clicks(stream: Any) -> None:
        # All pointers are read again at each start (they are not acknowledged), but only the newest file is opened.
        async for pointers in stream.take(1_000, within=0.5):
            if isinstance(writer, CatalogueWriter):
                await asyncio.to_thread(_learn, writer, store, pointers)

    app.agent(_topic(app, IMPRESSIONS.name), name="keywords", concurrency=concurrency)(keywords)
    app.agent(_topic(app, SNAPSHOTS.name, acks=False), name="keywords-clicks")(clicks)
    starting = asyncio.create_task(app.start())
    logger.info("worker starts", app=app.conf.id, writer=writer.version)
    watching = asyncio.ensure_future(watch(lambda: _owned(app)) if watch else asyncio.sleep(0))
    while not stop.is_set():
        if app._crashed.is_set() or (starting.done() and starting.exception() is not None):
            failures.append(app._crash_reason or starting.exception())
            break
        try:
            await asyncio.wait_for(stop.wait(), 0.2)
        except TimeoutError:
            continue
    watching.cancel()
    try:
        await asyncio.wait_for(app.stop(), 8.0)
    except (TimeoutError, asyncio.CancelledError):
        logger.warning("the consumer did not stop in time")
    logger.info("worker ends", failure=repr(failures[0]) if failures else None)
    return 1 if failures else 0


def _owned(app: Any) -> set[int]:
    """Partitions of the impressions that the group has given to this process."""
    try:
        return {place.partition for place in app.consumer.assignment() if place.topic == IMPRESSIONS.name}
    except ConsumerNotStarted:
        return set()


def _topic(app: Any, name: str, acks: bool = True) -> Any:
    return app.topic(name, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw", acks=acks)


def _learn(writer: CatalogueWriter, store: Store, raw_pointers: list[bytes]) -> None:
    """Give the writer the newest snapshot among the pointers. What cannot be read is told and passed over."""
    pointers = []
    for raw in raw_pointers:
        try:
            pointers.append(decode(SnapshotPointer, raw))
        except InvalidEvent as error:
            logger.warning("unreadable snapshot pointer", error=str(error))
    if not pointers:
        return
    newest = max(pointers, key=lambda pointer: pointer.version)
    try:
        snapshot = PosteriorSnapshot.read(store, newest)
        snapshot.verify()
        writer.clicks = snapshot
    except (Unavailable, Corrupt, Incompatible) as error:
        logger.warning("snapshot passed over", version=newest.version, error=str(error))
