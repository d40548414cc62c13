"""How far behind each agent is: our own measure, as the group's committed offsets are not used."""

from __future__ import annotations

import time
from dataclasses import dataclass

from schemas.commits import Commit
from schemas.connections import Connections
from streams.accounting import standing
from streams.runtime.log import LogReader

#: Below this, what lies between is looked at: it may be nothing but the control records of transactions.
LOOK = 64


@dataclass(frozen=True)
class Lag:
    """One state partition of one agent. ``lag`` counts input records not yet committed; ``age_s`` is wall time since the
    last commit; ``watermark`` is event time (ms)."""

    agent: str
    partition: int
    lag: int
    watermark: int
    sequence: int
    age_s: float
    topics: dict[str, int]


def lags(connections: Connections, timeout_s: float = 30.0) -> list[Lag]:
    """Lag of every agent and partition that has ever committed.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections.kafka, timeout_s)
    return [_lag(reader, commit) for commit in standing(connections, timeout_s)]


def _lag(reader: LogReader, commit: Commit) -> Lag:
    topics = {}
    for topic, following in commit.next_offsets.items():
        behind = max(0, reader.bounds(topic, commit.partition)[1] - following)
        if 0 < behind < LOOK:
            behind = sum(map(len, reader.read(topic, commit.partition, following, following + behind)))
        topics[topic] = behind
    age_s = max(0.0, time.time() - commit.created_ms / 1_000)
    return Lag(
        commit.agent, commit.partition, sum(topics.values()), commit.watermark, commit.sequence, round(age_s, 1), topics
    )
