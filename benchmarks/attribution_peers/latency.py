"""From the end of a view's window to its reader, in real time, at a given load."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.attribution_peers.stage import Stage
from benchmarks.attribution_peers.systems import System
from schemas.errors import ServiceFailed
from schemas.topics import VIEWS

#: Small windows (s), so that views come soon; the lateness is the smallest there is but none.
RULES = {"click_window_s": 2, "order_window_s": 2, "return_window_s": 2, "lateness_s": 1}
#: A view's timer fires with its whole second of event time.
WARM_S, REPEATS = 4, 5
#: Longest wait for the last views (s).
PATIENCE_S = 60


class Delays(NamedTuple):
    """Of one stretch: seconds from when the watermark may pass the view's timer (p50, p99), and from the very end of its
    window, up to a second earlier (p99)."""

    p50: float
    p99: float
    p99_whole: float


class Head(msgspec.Struct):
    """What is read of a view."""

    status: str = ""
    ts: int = 0
    emitted_at: int = 0


def delays(stage: Stage, worker: System, feeder: System, rate: float, stretch_s: int) -> tuple[list[Delays], float]:
    """Delays in each of `REPEATS` stretches of so many seconds of event time, and the events/s that were really sent.

    The clock of events is this machine's: a view whose window ends at time t can be emitted at t plus the lateness.
    """
    connections, over_s = stage.connections, WARM_S + REPEATS * stretch_s
    log = stage.folder / "live.log"
    job = {"connections": connections.model_dump(), "name": "attribution-live", "rules": RULES, "log": str(log)}
    pid = worker.begin(job)
    _await_recovery(log, connections.partitions)
    load = {"kafka": connections.kafka, "partitions": connections.partitions, "rate": rate, "seconds": over_s + 4}
    feeding = feeder.begin(load)
    began_s = feeder.hear("first")["clock_s"]
    stretches: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at_s, *delay in _read(stage, began_s + over_s):
        stretches[int((at_s - began_s - WARM_S) // stretch_s)].append((delay[0], delay[1]))
    end = feeder.hear("end")
    for system, number in ((feeder, feeding), (worker, pid)):
        os.kill(number, signal.SIGTERM)
        if system is worker:
            system.hear("first")
        system.finish()
    return [_summary(stretches[n]) for n in range(REPEATS)], end["sent"] / end["seconds"]


def _await_recovery(log: Path, partitions: int) -> None:
    deadline = time.monotonic() + 60
    while not log.is_file() or log.read_text().count('"recovered"') < partitions:
        if time.monotonic() > deadline:
            raise ServiceFailed("attribution-live", "not ready after 60 s", str(log))
        time.sleep(0.05)


def _read(stage: Stage, until_s: float) -> Iterator[tuple[float, float, float]]:
    """(event time of the timer, delay after it and the lateness, delay after the window and the lateness), in s, of each
    provisional view until every partition has shown a later one.

    Raises:
        ServiceFailed: one has not, long after: the worker does not keep up.
    """
    connections = stage.connections
    partitions = range(connections.partitions)
    consumer = Consumer(
        {
            "bootstrap.servers": connections.kafka,
            "group.id": "bench-latency",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
        }
    )
    consumer.assign([TopicPartition(VIEWS.name, p, 0) for p in partitions])
    decode, left = msgspec.json.Decoder(Head).decode, set(partitions)
    lateness_s, window_s = RULES["lateness_s"], RULES["click_window_s"]
    try:
        while left:
            message = consumer.poll(0.1)
            now = time.time()
            if now > until_s + PATIENCE_S:
                raise ServiceFailed("attribution-live", f"partitions {left} have no view of the end", str(stage.folder))
            if message is None or message.error() is not None:
                continue
            view = decode(message.value())
            if view.status != "provisional":
                continue
            at_s = view.emitted_at / 1_000
            if at_s >= until_s:
                left.discard(message.partition())
            yield at_s, now - at_s - lateness_s, now - view.ts / 1_000 - window_s - lateness_s
    finally:
        consumer.close()


def _summary(found: list[tuple[float, float]]) -> Delays:
    timer, window = np.array(found).T
    p50, p99 = np.percentile(timer, (50, 99))
    return Delays(float(p50), float(p99), float(np.percentile(window, 99)))
