"""How far behind each agent is: our own measure, as the group's committed offsets are not used."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from schemas.commits import Commit
from schemas.connections import Connections
from streams.accounting import standing
from streams.integrity.hold import Hold
from streams.runtime.behind import records_behind, seconds_behind
from streams.runtime.log import LogReader, Tail


@dataclass(frozen=True)
class Lag:
    """One partition of one agent, or of another reader of topics. None: not known, or there is no such thing.

    ``lag`` counts input records not yet committed, ``topics`` says in which; ``watermark`` is event time (ms), 0 before
    any. ``lag_s`` is event time too, from what was taken last to the newest at the end, of the input where that is most: 0
    when everything was taken. ``skew_s``: the furthest watermark of the agent's partitions less this one. ``sequence`` and ``age_s`` (wall time) are of the
    last commit. ``state_bytes`` is the size of the last dumped state, not compressed; ``since_snapshot`` counts the
    input records since, which a recovery would replay. ``hold``: of the learner, while it stands still for a broken log.
    """

    agent: str
    partition: int
    lag: int
    watermark: int
    sequence: int
    age_s: float | None
    topics: dict[str, int] = field(default_factory=dict)
    lag_s: float | None = None
    skew_s: float | None = None
    state_bytes: int | None = None
    since_snapshot: int | None = None
    hold: Hold | None = None


def lags(connections: Connections, timeout_s: float = 30.0) -> list[Lag]:
    """Lag of every agent and partition that has ever committed, ordered by them.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    commits = standing(connections, timeout_s)
    places = sorted({(topic, commit.partition) for commit in commits for topic in commit.next_offsets})
    tails = LogReader(connections, timeout_s).tails(places) if places else {}
    return with_skew([_lag(commit, {t: tails[t, commit.partition] for t in commit.next_offsets}) for commit in commits])


def _lag(commit: Commit, tails: dict[str, Tail]) -> Lag:
    topics = {topic: records_behind(tail, commit.next_offsets[topic]) for topic, tail in tails.items()}
    return Lag(
        agent=commit.agent,
        partition=commit.partition,
        lag=sum(topics.values()),
        watermark=commit.watermark,
        sequence=commit.sequence,
        age_s=age_s(commit.created_ms),
        topics=topics,
        lag_s=seconds_behind(tails, commit.next_offsets, commit.reached, commit.watermark),
        state_bytes=commit.snapshot_bytes or None,  # a commit of before it was told
        since_snapshot=commit.since_snapshot if commit.snapshot_bytes else None,
    )


def with_skew(rows: Iterable[Lag]) -> list[Lag]:
    """The rows of each agent compared with its furthest one."""
    rows = list(rows)
    first: dict[str, int] = {}
    for row in rows:
        first[row.agent] = max(row.watermark, first.get(row.agent, 0))
    return [replace(row, skew_s=(first[row.agent] - row.watermark) / 1_000 if row.watermark else None) for row in rows]


def age_s(created_ms: int) -> float:
    """Seconds of wall time since then."""
    return round(max(0.0, time.time() - created_ms / 1_000), 1)
