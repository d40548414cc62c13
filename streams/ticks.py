"""Ticks: the present time, sent to every partition of every event topic by whoever owns the clock.

An input that falls silent would hold the watermark, and with it every view. In production one small process sends the
wall clock; a replay or a simulation sends its own time instead.
"""

from __future__ import annotations

import time
from threading import Event

import structlog

from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Refused, Unavailable
from schemas.events import Tick
from schemas.topics import INPUTS
from streams.producing import EventProducer

logger = structlog.get_logger(__name__)

#: For the last ticks once the clock is to end (s): shorter than a supervisor's patience, and ticks of a broker that is away are
#: of no use to anybody.
LEAVE_S = 2.0


def send_tick(producer: EventProducer, partitions: int, ts: int) -> int:
    """Queue a tick of event time ``ts`` (ms) for each partition of each input; how many those are."""
    raw = encode(Tick(ts=ts))
    for topic in INPUTS:
        for partition in range(partitions):
            producer.send(topic.name, raw, b"", partition)
    return len(INPUTS) * partitions


def run_ticks(connections: Connections, stop: Event, every_s: float = 1.0, patience_s: float = 60.0) -> None:
    """Send the wall clock every ``every_s`` seconds until ``stop`` is set. One process of this kind is enough.

    A broker that is away is waited for: what it has not taken in ``patience_s`` is given up, as ticks of the present follow. At
    the stop it has `LEAVE_S`. A topic that is missing is told again and again, until it is there.

    Raises:
        Refused: the broker does not let us in, or not write one of the topics.
    """
    while not stop.is_set():
        try:
            with EventProducer(connections, patience_s) as producer:
                while not stop.wait(every_s):
                    send_tick(producer, connections.partitions, int(time.time() * 1_000))
                producer.flush(LEAVE_S)
        except Refused:
            raise
        except Unavailable as error:  # that producer sends no more; the next one does, as soon as there is a broker
            then = "the clock ends" if stop.is_set() else "sending on"
            logger.warning(f"ticks given up, {then}", error=str(error))
