"""Where attribution stands on a broker, cheaply: the newest commit of each partition, and the ends of its inputs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import INPUTS
from streams.attribution.core import NAME
from streams.runtime.commit_log import last_commit
from streams.runtime.log import LogReader


@dataclass(frozen=True)
class Standing:
    """``end``: records ever written to the inputs; ``lag``: those of them that are not committed; ``watermark``: the least
    of the partitions (ms); ``counters``: summed."""

    end: int
    lag: int
    watermark: int
    counters: dict[str, int]


def standing(connections: Connections, timeout_s: float = 30.0) -> Standing:
    """Where it stands now. Inputs are written without transactions, so every offset is a record.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    partitions = range(connections.partitions)
    commits: list[Commit | None] = [last_commit(reader, NAME, p, connections.partitions) for p in partitions]
    end = lag = 0
    for partition, commit in zip(partitions, commits, strict=True):
        for topic in INPUTS:
            high = reader.bounds(topic.name, partition)[1]
            end += high
            lag += high - (commit.next_offsets[topic.name] if commit else 0)
    counters: Counter[str] = Counter()
    for commit in commits:
        counters.update(commit.counters if commit else {})
    return Standing(end, lag, min(commit.watermark if commit else 0 for commit in commits), dict(counters))


def drained(connections: Connections, timeout_s: float) -> Standing:
    """Wait until every input record is committed; nobody may write to the inputs any more.

    Raises:
        Unavailable: not within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            now = standing(connections)
            if now.lag == 0:
                return now
            detail = f"{now.lag} records are not committed"
        except Unavailable as error:
            detail = str(error)
        if time.monotonic() > deadline:
            raise Unavailable("the end of the inputs", f"{detail} after {timeout_s} s", "look at the workers' logs")
        time.sleep(0.3)
