"""What agents say they have done, from their commit records: the basis of "nothing is lost"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from schemas.codec import decode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.topics import COMMITS, STATES, Topic
from streams.producing import EventProducer
from streams.runtime.commit_log import REBUILD
from streams.runtime.core import Record
from streams.runtime.log import LogReader

#: Counters of attribution that, together with ``quarantined.*``, sum to the records it has read.
ACCOUNTED = ("impressions", "clicks", "orders", "returns", "duplicates", "ticks", "pending")
#: Longest silence of the broker that is waited through (s).
TIMEOUT_S = 30.0
#: The same where nothing may be missed: the transaction of a worker that was killed stays open for a minute.
OPEN_S = 90.0


def standing(connections: Connections, timeout_s: float = TIMEOUT_S) -> list[Commit]:
    """The newest commit of every agent and partition, ordered by them. What is behind an open transaction is left out: that of
    a worker that was killed stays open until another takes its place, or for a minute.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    newest: dict[tuple[str, int], bytes] = {}
    for _, record in _records(connections, COMMITS, timeout_s, stable=True):
        agent, _, number = (record.key or b"").decode().rpartition(":")
        if not agent.startswith(REBUILD):  # the mark of a rebuilt topic, not an agent's commit
            newest[agent, int(number)] = record.value
    return [decode(Commit, newest[key]) for key in sorted(newest) if newest[key]]


def forget(connections: Connections, agent: str) -> int:
    """Take a retired agent's commits back, and the states that it dumped, by empty records under their keys; of how many
    partitions. Started again, it begins anew. Whatever fails on the way, it can be done again: states without commits count too.

    Raises:
        InvalidRequest: it has none.
        Unavailable: the broker does not answer, or somebody's transaction stays open.
    """
    # Both before the first one goes: with the commits gone and the states not read, nobody would look for them again. Keys of
    # states have the number of the part behind that of the partition, and older, larger states had more parts.
    commits = {key: (place, *_owner(key)) for key, place in _keys(connections, COMMITS).items()}
    states = {key: (place, *_owner(key.rpartition(b":")[0])) for key, place in _keys(connections, STATES).items()}
    owners = {(name, partition) for _, name, partition in (*commits.values(), *states.values())}
    mine = {partition for name, partition in owners if name == agent}
    if not mine or agent.startswith(REBUILD):
        known = ", ".join(sorted({name for name, _ in owners if not name.startswith(REBUILD)})) or "there is none"
        raise InvalidRequest("agent", agent, f"one with commits: {known}", "see `headrace status`")
    with EventProducer(connections) as producer:
        for topic, keys in ((COMMITS, commits), (STATES, states)):
            for key, (place, name, _) in keys.items():
                if name == agent:
                    producer.send(topic.name, None, key, place)
            producer.flush()  # the commits first: one whose state is gone could not be started from
    return len(mine)


def _owner(key: bytes) -> tuple[str, int]:
    """Agent and partition of a commit's key."""
    agent, _, partition = key.decode().rpartition(":")
    return agent, int(partition)


def _keys(connections: Connections, topic: Topic) -> dict[bytes, int]:
    """Keys that have a value, and where they lie; what is behind an open transaction is waited for."""
    kept: dict[bytes, int] = {}
    for place, record in _records(connections, topic, OPEN_S, stable=False):
        if record.key and record.value:
            kept[record.key] = place
        elif record.key:
            kept.pop(record.key, None)
    return kept


def _records(connections: Connections, topic: Topic, timeout_s: float, *, stable: bool) -> Iterator[tuple[int, Record]]:
    reader = LogReader(connections, timeout_s)
    for place in range(connections.partitions):
        for batch in reader.read(topic.name, place, *reader.bounds(topic.name, place, stable)):
            for record in batch:
                yield place, record


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
