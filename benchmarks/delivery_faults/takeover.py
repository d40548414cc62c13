"""Take-over: from the kill -9 of a worker with many open views to the first new commit of its partition that a reader sees.

One partition, whose owner has them all. Either a second worker stands by, and takes over when the session of the dead one is over;
or the dead one is started again, as a static member, at once.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from benchmarks.delivery_faults.flow import Entry
from benchmarks.delivery_faults.stage import Stage, stage
from benchmarks.plane.standing import drained
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import COMMITS, IMPRESSIONS
from streams.runtime.log import LogReader
from streams.settings import AttributionSettings, RuntimeSettings

#: Windows so long that nothing closes meanwhile.
RULES = AttributionSettings(click_window_s=7_200, order_window_s=7_200, return_window_s=7_200, lateness_s=10, tick_grid_s=1)
#: The product's own, but for the session.
RUNTIME = RuntimeSettings(session_timeout_s=2)
#: Events that flow around a kill, and for how long (s); time for a worker to start and join (s).
EVENTS, SECONDS, SETTLED_S = 2_000, 10.0, 6.0
#: Longest wait for a take-over (s).
TAKEN_S = 180.0


class Commits:
    """Follows the commit records as a reader sees them."""

    def __init__(self, connections: Connections) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": connections.kafka, "group.id": "headrace-takeover", "enable.auto.commit": False,
                "isolation.level": "read_committed", "fetch.wait.max.ms": 10, "log_level": 2,
            }
        )  # fmt: skip
        end = LogReader(connections, 30).bounds(COMMITS.name, 0)[1]
        self._consumer.assign([TopicPartition(COMMITS.name, 0, end)])

    def first_after(self, wall_ms: int) -> float:
        """Wait for a commit that was made after this wall time; when it was seen (wall s).

        Raises:
            Unavailable: none comes.
        """
        deadline = time.monotonic() + TAKEN_S
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            if msgspec.json.decode(message.value())["created_ms"] > wall_ms:
                return time.time()
        raise Unavailable("a new commit", f"none in {TAKEN_S:g} s", "look at the workers' logs")

    def close(self) -> None:
        """Done."""
        self._consumer.close()


def measure(folder: Path, seed: int, views: int, kills: int) -> dict[str, list[float]]:
    """Seconds of each take-over: by a second worker that stands by, and by the same one started again."""
    with stage(folder, seed, 1, RULES, RUNTIME) as one:
        _load(one, views)
        commits = Commits(one.connections)
        try:
            one.crew.start("two", again=False)
            one.crew.await_ready("two")
            _stand_by(one, "three")
            standby = [_of_standby(one, commits) for _ in range(kills)]
            one.crew.stop("two")
            one.crew.stop("three")
            one.crew.start("one", static=True)
            again = [_of_itself(one, commits) for _ in range(kills)]
        finally:
            commits.close()
    return {"by a second worker": standby, "by itself, started again": again}


def _load(one: Stage, views: int) -> None:
    """Open so many views."""
    entries: list[Entry] = []
    while sum(entry.topic == IMPRESSIONS.name and entry.key != b"" for entry in entries) < views:
        entries += one.log.take(views // 2)
    one.crew.start("one")
    with one.flow.during(entries, 0):
        one.crew.await_ready("one")
    found = drained(one.connections, 300).counters
    one.crew.stop("one")
    one.say(f"take-over: {found['impressions']:,} views are open, {found['clicks']:,} clicks in them")


def _of_standby(one: Stage, commits: Commits) -> float:
    with one.flow.during(one.log.take(EVENTS), SECONDS):
        dead = one.crew.owner()
        one.wait(1, 2)
        seconds = _kill(one, commits, dead)
        one.say(f"take-over by {one.crew.owner()} from {dead}: {seconds:.2f} s")
        _stand_by(one, dead)
    return seconds


def _of_itself(one: Stage, commits: Commits) -> float:
    with one.flow.during(one.log.take(EVENTS), SECONDS):
        one.crew.await_ready("one")
        one.wait(1, 2)
        seconds = _kill(one, commits, "one")
        one.say(f"take-over by itself: {seconds:.2f} s")
    return seconds


def _kill(one: Stage, commits: Commits, name: str) -> float:
    """Seconds from kill -9 to the first commit made after it."""
    began = time.time()
    one.crew.signal(name, signal.SIGKILL)
    return commits.first_after(int(began * 1_000)) - began


def _stand_by(one: Stage, name: str) -> None:
    """Start a worker beside the owner, and let the group settle: who has no partition says nothing of it."""
    one.crew.start(name, again=False)
    time.sleep(SETTLED_S)
