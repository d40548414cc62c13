"""What says that a rebuilt topic is whole: a commit record for each of its partitions, written when all of it is there.

The records live in `headrace.commits` under the agent `rebuild:NAME`. ``next_offsets`` holds, under the name of the topic that was
rebuilt, where the partition ended; a topic that ends elsewhere is not the one that was finished.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from schemas.codec import encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidRequest
from schemas.topics import COMMITS, TOPICS, Topic, topic
from streams.replaying.inputs import partitions_of
from streams.replaying.span import Span
from streams.runtime.commit_log import REBUILD, commit_key, last_commit
from streams.runtime.core import Output
from streams.runtime.log import LogReader

#: A mark's ``next_offsets`` before the topic is whole.
UNFINISHED = -1


class Rebuilt(NamedTuple):
    """A finished rebuild: which topic of the registry it is of, and the event times it was asked for."""

    name: str
    of: Topic
    span: Span


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that Kafka refuses or that the registry has."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name) or name in (".", ".."):
        raise InvalidRequest("name of the rebuilt topic", name, "1 to 200 of A-Z a-z 0-9 . _ -", "choose another")
    if name in (t.name for t in TOPICS):
        raise InvalidRequest("name of the rebuilt topic", name, "none that is in use", "choose one of its own")


def check_overwritable(reader: LogReader, connections: Connections, name: str) -> None:
    """Raises InvalidRequest for a topic that no rebuild made."""
    if last_commit(reader, REBUILD + name, 0, connections.partitions) is None:
        raise InvalidRequest(
            "topic to overwrite", name, "one that a rebuild made", "take another name, or delete it yourself"
        )


def marks(connections: Connections, name: str, of: Topic, span: Span, ends: Sequence[int]) -> list[Output]:
    """The records that say how far each partition of ``name`` goes; `UNFINISHED` for one that is still written."""
    agent, now = REBUILD + name, int(time.time() * 1_000)
    counters = {"from": span.start, "to": span.end}
    return [
        Output(
            COMMITS.name,
            commit_key(agent, partition),
            encode(Commit(agent, partition, now, {of.name: end}, -1, 0, counters, now)),
            partition % connections.partitions,
        )
        for partition, end in enumerate(ends)
    ]


def rebuilt(reader: LogReader, connections: Connections, name: str) -> Rebuilt:
    """The finished rebuild of that name; a topic of the registry is one of itself.

    Raises:
        InvalidRequest: there never was one.
        Incompatible: it is not finished, or the topic is not the one that was.
        Unavailable: the broker does not answer.
    """
    if name in (t.name for t in TOPICS):
        return Rebuilt(name, topic(name), Span())
    first = last_commit(reader, REBUILD + name, 0, connections.partitions)
    if first is None:
        raise InvalidRequest("rebuilt topic", name, "one that `headrace replay --into` made", "make it first")
    (of,) = first.next_offsets
    said = Rebuilt(name, topic(of), Span(first.counters["from"], first.counters["to"]))
    for partition in range(partitions_of(said.of, connections.partitions)):
        commit = last_commit(reader, REBUILD + name, partition, connections.partitions)
        want = UNFINISHED if commit is None else commit.next_offsets[of]
        remedy = f"rebuild it: headrace replay --topic {of} --into {name} --overwrite"
        if want == UNFINISHED:
            raise Incompatible(
                f"rebuilt topic {name}, partition {partition}", "a finished rebuild", "an unfinished one", remedy
            )
        end = reader.bounds(name, partition)[1]
        if end != want:
            raise Incompatible(f"rebuilt topic {name}, end of partition {partition}", want, end, remedy)
    return said
