"""The commit record of an agent's state partition, written in the same transaction as its outputs."""

from __future__ import annotations

import msgspec


class Commit(msgspec.Struct, frozen=True, tag_field="type", tag="commit"):
    """One flush. ``counters`` are cumulative over the life of the state, exact across restarts."""

    agent: str
    partition: int
    sequence: int
    next_offsets: dict[str, int]  #: input topic -> next offset
    snapshot_offset: int  #: first offset of the last snapshot's parts in the snapshot topic, -1 for none
    watermark: int  #: event time (ms)
    counters: dict[str, int]
    created_ms: int  #: wall time
    snapshot_bytes: int = 0  #: size of the last dumped state, not compressed
    since_snapshot: int = 0  #: input records taken since then: what a recovery replays
    rules: str = ""  #: digest of the settings that shape the state; empty: not told
    reached: dict[str, int] = {}  #: input topic -> event time (ms) of what was taken last; none: not told
    topic_ids: dict[str, str] = {}  #: input topic -> the broker's id of it; none: not told
    v: int = 1


class SnapshotPart(msgspec.Struct, frozen=True, tag_field="type", tag="part"):
    """A piece of a dumped state (zstd), under the broker's message limit."""

    agent: str
    partition: int
    sequence: int  #: of the commit it belongs to
    index: int
    count: int
    next_offsets: dict[str, int]
    data: bytes
    v: int = 1
