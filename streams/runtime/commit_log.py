"""Where an agent's partition stands: its last commit record, and the snapshot that it points to."""

from __future__ import annotations

import msgspec
import zstandard

from schemas.codec import decode, encode
from schemas.commits import Commit, SnapshotPart
from schemas.errors import Corrupt
from schemas.topics import COMMITS, STATES
from streams.runtime.log import LogReader

#: The first look back from the end of the commit topic (records); it grows by `GROWTH` until the key is found.
FIRST_LOOK, GROWTH = 500, 8

#: Names of this beginning stand for rebuilt topics (`streams.replaying.marks`), not for agents.
REBUILD = "rebuild:"


def commit_key(agent: str, partition: int) -> bytes:
    """Key of the commit records of an agent's state partition."""
    return f"{agent}:{partition}".encode()


def last_commit(reader: LogReader, agent: str, partition: int, partitions: int) -> Commit | None:
    """The newest committed record of that key; None where there is none, or the agent was forgotten.

    It lives in partition ``partition % partitions`` of the commit topic, which is read backwards in growing stretches.
    """
    place, key = partition % partitions, commit_key(agent, partition)
    low, high = reader.bounds(COMMITS.name, place)
    look, end = FIRST_LOOK, high
    while end > low:
        start = max(low, end - look)
        found: bytes | None = None
        for batch in reader.read(COMMITS.name, place, start, end):
            for record in batch:
                if record.key == key:
                    found = record.value
        if found is not None:
            commit: Commit | None = decode(Commit, found) if found else None
            return commit
        end, look = start, look * GROWTH
    return None


def split(agent: str, partition: int, sequence: int, offsets: dict[str, int], state: bytes, size: int) -> list[bytes]:
    """A dumped state as encoded snapshot parts of at most ``size`` compressed bytes each."""
    packed = zstandard.ZstdCompressor(level=1).compress(state)
    pieces = [packed[n : n + size] for n in range(0, len(packed), size)]
    return [
        encode(SnapshotPart(agent, partition, sequence, index, len(pieces), offsets, piece))
        for index, piece in enumerate(pieces)
    ]


def snapshot(reader: LogReader, commit: Commit, partitions: int) -> tuple[bytes, dict[str, int], int]:
    """The state that ``commit`` points to, the input offsets at which it was taken, and when that was (wall time, ms).

    Raises:
        Corrupt: parts are missing or do not unpack.
    """
    place = commit.partition % partitions
    _, high = reader.bounds(STATES.name, place)
    name = f"snapshot of {commit.agent}/{commit.partition} at {STATES.name}/{place}/{commit.snapshot_offset}"
    parts: list[SnapshotPart] = []
    for batch in reader.read(STATES.name, place, commit.snapshot_offset, high):
        for record in batch:
            if not record.value:
                continue  # of an agent that was forgotten
            part: SnapshotPart = decode(SnapshotPart, record.value)
            if (part.agent, part.partition) == (commit.agent, commit.partition):
                if parts and part.sequence != parts[0].sequence:
                    raise Corrupt(name, f"{len(parts)} of {parts[0].count} parts", "reset the agent and replay its inputs")
                parts.append(part)
                if len(parts) == part.count:
                    return _unpack(name, parts), dict(part.next_offsets), record.timestamp
    raise Corrupt(name, f"{len(parts)} parts found", "reset the agent and replay its inputs")


def _unpack(name: str, parts: list[SnapshotPart]) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(b"".join(part.data for part in parts))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise Corrupt(name, str(error), "reset the agent and replay its inputs") from error
