"""A broker of the benchmark's own, in its own folder, which may be killed, and its topics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from headrace.process import Process
from headrace.services.kafka import kafka_child
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.errors import ServiceFailed
from schemas.topics import Topic
from streams.attribution.core import attribution_agent
from streams.runtime.process import topics_of
from streams.settings import AttributionSettings

#: What an attribution worker needs.
TOPICS = topics_of([attribution_agent(AttributionSettings())])
#: Longest wait for a broker to be ready, on a busy machine (s).
READY_S = 180.0


@contextmanager
def broker(
    run: Path,
    data: Path,
    settings: Mapping[str, str] | None = None,
    retention_s: int | None = None,
    partitions: int = 2,
) -> Iterator[tuple[Process, Connections]]:
    """A ready broker with attribution's topics, and its addresses.

    Args:
        run: folder of logs and pids.
        data: folder of the broker's files.
        settings: Kafka settings over the product's own.
        retention_s: in place of the retention of the topics that are not compacted (s).
        partitions: of each topic.

    Raises:
        ServiceFailed: it does not come up.
    """
    child, address = kafka_child(data, run / "logs", settings)
    process = Process(child, run, os.environ)
    process.start()
    try:
        await_ready(process)
        connections = Connections(kafka=address, store=str(run / "store"), partitions=partitions)
        create_topics(connections, [_kept(topic, retention_s) for topic in TOPICS])
        yield process, connections
    finally:
        process.stop()


def await_ready(process: Process) -> None:
    """Wait until the process is ready.

    Raises:
        ServiceFailed: it has ended, or takes too long.
    """
    deadline = time.monotonic() + READY_S
    while not process.check():
        if process.poll() or time.monotonic() > deadline:
            raise ServiceFailed(process.child.name, f"not ready (exit {process.last_exit})", str(process.log))
        time.sleep(0.1)


def _kept(topic: Topic, retention_s: int | None) -> Topic:
    return topic if retention_s is None or topic.cleanup == "compact" else replace(topic, retention_s=retention_s)
