"""What agents say they have done, from their commit records: the basis of "nothing is lost"."""

from __future__ import annotations

from collections import Counter

from schemas.codec import decode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.topics import COMMITS, STATES
from streams.producing import EventProducer
from streams.runtime.commit_log import REBUILD, commit_key
from streams.runtime.log import LogReader

#: Counters of attribution that, together with ``quarantined.*``, sum to the records it has read.
ACCOUNTED = ("impressions", "clicks", "orders", "returns", "duplicates", "ticks", "pending")
#: Longest silence of the broker that is waited through (s).
TIMEOUT_S = 30.0


def standing(connections: Connections, timeout_s: float = TIMEOUT_S) -> list[Commit]:
    """The newest commit of every agent and partition, ordered by them. What is behind an open transaction is left out: that of
    a worker that was killed stays open until another takes its place, or for a minute.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    newest: dict[tuple[str, int], bytes] = {}
    for partition in range(connections.partitions):
        for batch in reader.read(COMMITS.name, partition, *reader.bounds(COMMITS.name, partition, stable=True)):
            for record in batch:
                agent, _, number = (record.key or b"").decode().rpartition(":")
                if not agent.startswith(REBUILD):  # the mark of a rebuilt topic, not an agent's commit
                    newest[agent, int(number)] = record.value
    return [decode(Commit, newest[key]) for key in sorted(newest) if newest[key]]


def forget(connections: Connections, agent: str) -> int:
    """Take a retired agent's commits back, and the states that it dumped, by empty records under their keys; how many commits.
    Started again, it begins anew.

    Raises:
        InvalidRequest: it has none.
        Unavailable: the broker does not answer.
    """
    commits = standing(connections)
    mine = [commit for commit in commits if commit.agent == agent]
    if not mine:
        known = ", ".join(sorted({commit.agent for commit in commits})) or "there is none"
        raise InvalidRequest("agent", agent, f"one with commits: {known}", "see `headrace status`")
    keys = [(commit_key(agent, commit.partition), commit.partition % connections.partitions) for commit in mine]
    with EventProducer(connections) as producer:
        for key, place in keys:
            producer.send(COMMITS.name, None, key, place)
        producer.flush()  # a commit whose state is gone could not be started from
        for key, place in keys:
            for part in _parts(connections, key, place):
                producer.send(STATES.name, None, part, place)
    return len(mine)


def _parts(connections: Connections, key: bytes, place: int) -> set[bytes]:
    """Keys of all parts of states dumped under ``key``: of older, larger ones too, so they have to be looked for."""
    reader = LogReader(connections, TIMEOUT_S)
    found = reader.read(STATES.name, place, *reader.bounds(STATES.name, place, stable=True))
    records = (record for batch in found for record in batch)
    return {record.key for record in records if record.key and record.key.rpartition(b":")[0] == key}


def totals(connections: Connections, timeout_s: float = TIMEOUT_S) -> dict[str, dict[str, int]]:
    """Agent -> its counters summed over its partitions."""
    sums: dict[str, Counter[str]] = {}
    for commit in standing(connections, timeout_s):
        sums.setdefault(commit.agent, Counter()).update(commit.counters)
    return {agent: dict(counters) for agent, counters in sums.items()}


def accounted(counters: dict[str, int]) -> int:
    """How many input records attribution's counters account for; ``pending`` ones still wait for their watermark."""
    refused = sum(n for name, n in counters.items() if name.startswith("quarantined."))
    return refused + sum(counters.get(name, 0) for name in ACCOUNTED)


def records(connections: Connections, topics: tuple[str, ...], timeout_s: float = TIMEOUT_S) -> int:
    """Records ever written to these event topics: their end offsets, summed. Their producers use no transactions, so
    every offset is a record."""
    reader = LogReader(connections, timeout_s)
    return sum(reader.bounds(topic, partition)[1] for topic in topics for partition in range(connections.partitions))
