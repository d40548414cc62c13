"""One worker process: a Faust app with its agents, until SIGTERM or a failure."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Sequence

import structlog
from faust.types import TP

from schemas.admission import probe_kafka
from schemas.connections import Connections
from schemas.errors import Refused, Unavailable
from schemas.store import Store
from schemas.topics import COMMITS, QUARANTINE, STATES, Topic
from streams.runtime import metrics
from streams.runtime.core import Agent
from streams.runtime.faust_internals import Chunk, ChunkApp, add_agent, new_app
from streams.runtime.host import Host
from streams.runtime.instance import hold_instance, tell_of_others
from streams.runtime.lag_watch import watch_lag
from streams.runtime.log import LogReader
from streams.settings import RuntimeSettings

logger = structlog.get_logger(__name__)

#: Longest wait for the broker when the lag is measured (s); a stop may have to wait for it.
LAG_TIMEOUT_S = 5.0


def run(
    agents: Sequence[Agent],
    connections: Connections,
    store: Store,
    settings: RuntimeSettings | None = None,
    app_id: str = "headrace",
    instance: str | None = None,
) -> int:
    """Run until SIGTERM or SIGINT (returns 0, everything taken is written) or a failure (returns 1).

    ``app_id`` is the consumer group; ``instance``, when given, a name of this process in it that no other has at the
    same time: a restart under it takes its partitions back without a wait.

    Raises:
        Conflict: another process of this machine has that name.
        Unavailable: the broker or the topics do not come up, or the port for metrics is taken.
    """
    settings = settings or RuntimeSettings()
    # Millions of small, acyclic objects live here: looking through them for cycles as often as Python does costs a sixth.
    gc.set_threshold(100_000, 50, 50)
    with hold_instance(connections, app_id, instance):
        metrics.listen(settings.metrics_host, settings.metrics_port)
        await_topics(connections, agents, settings.recovery_timeout_s)
        tell_of_others(connections, app_id, instance)
        return asyncio.run(_serve(agents, connections, store, settings, app_id, instance))


async def _serve(
    agents: Sequence[Agent],
    connections: Connections,
    store: Store,
    settings: RuntimeSettings,
    app_id: str,
    instance: str | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = new_app(app_id, connections, settings, instance)
    host = Host(app, agents, connections, store, settings)
    _connect(app, host, agents)
    starting = asyncio.create_task(app.start())
    logger.info("worker starts", app=app_id, agents=[agent.name for agent in agents])
    watching = asyncio.create_task(
        watch_lag(lambda: list(host.slots.values()), LogReader(connections, LAG_TIMEOUT_S), settings.lag_every_s)
        if settings.metrics_port  # nobody asks the broker for what nobody reads
        else asyncio.sleep(0)
    )
    while not stop.is_set() and not host.ended.is_set():
        if app.crashed is not None:
            host.fail(app.crashed)
        elif starting.done() and (error := starting.exception()) is not None:
            host.fail(error)
        else:
            await _first(0.2, stop, host.ended)
    watching.cancel()
    return await _end(app, host, starting, settings)


def _connect(app: ChunkApp, host: Host, agents: Sequence[Agent]) -> None:
    app.wanted_positions = host.wanted

    async def on_revoked(_: ChunkApp, revoked: set[TP], **__: object) -> None:
        await host.revoked(revoked)

    async def on_complete(_: ChunkApp, **__: object) -> None:
        await host.assigned(app.consumer.assignment())

    # Kept on the app, as its signals hold their receivers weakly.
    app.headrace_handlers = (on_revoked, on_complete)
    app.on_partitions_revoked.connect(on_revoked)
    app.on_rebalance_complete.connect(on_complete)
    for agent in agents:
        add_agent(app, agent.name, agent.inputs, _taker(host, agent.name))


def _taker(host: Host, agent: str):  # type: ignore[no-untyped-def]
    async def take(tp: TP, chunk: Chunk) -> None:
        await host.take(agent, tp, chunk)

    return take


async def _end(app: ChunkApp, host: Host, starting: asyncio.Task[None], settings: RuntimeSettings) -> int:
    await host.close()
    if not starting.done():
        starting.cancel()
    try:
        await asyncio.wait_for(app.stop(), settings.stop_timeout_s)
    except (TimeoutError, asyncio.CancelledError):
        logger.warning("the consumer did not stop in time")
    tell = logger.info if host.failure is None else logger.error
    tell("worker ends", failure=str(host.failure) if host.failure else None)
    return 0 if host.failure is None else 1


async def _first(timeout_s: float, *events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def topics_of(agents: Sequence[Agent]) -> tuple[Topic, ...]:
    """Everything that a worker of these agents reads and writes, each once."""
    own = (topic for agent in agents for topic in (*agent.inputs, *agent.outputs))
    return tuple({topic.name: topic for topic in (*own, QUARANTINE, COMMITS, STATES)}.values())


def await_topics(connections: Connections, agents: Sequence[Agent], timeout_s: float) -> None:
    """Wait for the broker, and until the topics that these agents need are there with the right partitions.

    Raises:
        Unavailable: not within ``timeout_s``; Refused, at once: the broker does not let us in.
    """
    needed = {topic.name: topic.partitions or connections.partitions for topic in topics_of(agents)}
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            there = probe_kafka(connections)
            wrong = {name: (there.get(name, 0), n) for name, n in needed.items() if there.get(name, 0) != n}
            if not wrong:
                return
            detail = ", ".join(f"{name} has {found} partitions instead of {n}" for name, (found, n) in wrong.items())
        except Refused:
            raise
        except Unavailable as error:
            detail = error.detail
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Kafka at {connections.kafka}", detail, "start the broker, create the topics: `headrace topics --create`"
            )
        logger.info("waiting for the broker and its topics", detail=detail)
        time.sleep(0.5)
