"""What one flush writes: files, then one transaction of outputs, now and then the state, and the commit record."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from schemas.codec import encode
from schemas.commits import Commit
from schemas.store import Store
from schemas.topics import COMMITS, STATES
from streams.runtime.commit_log import commit_key, split
from streams.runtime.core import Blob, Output
from streams.runtime.writer import TransactionWriter


@dataclass(frozen=True)
class Batch:
    """All that one transaction writes; ``state`` is empty when it takes no snapshot."""

    outputs: list[Output]
    blobs: list[Blob]
    state: bytes
    commit: Commit

    def write(self, store: Store, writer: TransactionWriter, place: int, part_bytes: int) -> int:
        """The files first, then the transaction that mentions them. ``place``: partition of commit and state, whose parts have
        at most ``part_bytes``. Returns the offset of the first part, -1 without a state."""
        for blob in self.blobs:
            store.write(blob.path, blob.data)
        commit = self.commit
        key = commit_key(commit.agent, commit.partition)
        parts = (
            split(commit.agent, commit.partition, commit.sequence, commit.next_offsets, self.state, part_bytes)
            if self.state
            else []
        )
        return writer.write(
            self.outputs,
            [Output(STATES.name, key + b":%d" % n, part, place) for n, part in enumerate(parts)],
            lambda first: Output(COMMITS.name, key, encode(_pointing(commit, first)), place),
            commit.partition,
        )


def _pointing(commit: Commit, offset: int) -> Commit:
    if offset < 0:
        return commit
    return msgspec.structs.replace(commit, snapshot_offset=offset)
