"""A worker process of the tests: three agents in a row in one app, over topics of two and of one partition, and one that reads
beside the second what that reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import msgspec

from schemas.connections import Connections
from schemas.store import Store
from schemas.topics import CLICKS, DELTAS, POOLS, SNAPSHOTS, VIEWS, Topic
from streams.runtime.core import Agent, Blob, Output, Record
from streams.runtime.process import run
from streams.settings import RuntimeSettings


class Forward:
    """Passes every record on, and counts; each hundredth also becomes a file, as a snapshot would."""

    def __init__(self, to: Topic, partitions: Sequence[int | None]) -> None:
        self.counters: dict[str, int] = {"seen": 0}
        self.watermark, self.progress = 0, dict[str, int]()
        self._to, self._partitions = to, partitions
        self._out: list[Output] = []
        self._files: list[Blob] = []

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        for record in records:
            self.counters["seen"] += 1
            self._out += [Output(self._to.name, b"k", record.value, p) for p in self._partitions]
            if self.counters["seen"] % 100 == 0:
                self._files.append(
                    Blob(f"chain/{self._to.name}-{self.counters['seen']}-{record.value.decode()}", record.value)
                )

    def advance(self) -> None:
        """Nothing waits."""

    def drain(self) -> tuple[list[Output], list[Blob]]:
        out, self._out, files, self._files = self._out, [], self._files, []
        return out, files

    def dump(self) -> bytes:
        return msgspec.json.encode(self.counters)

    def load(self, data: bytes) -> None:
        self.counters = msgspec.json.decode(data)


AGENTS = [
    Agent("chain-first", (CLICKS,), (VIEWS,), lambda _: Forward(VIEWS, [None])),
    Agent("chain-second", (VIEWS,), (DELTAS,), lambda _: Forward(DELTAS, [0])),
    Agent("chain-third", (DELTAS,), (SNAPSHOTS,), lambda _: Forward(SNAPSHOTS, [0, 1])),
    Agent("chain-beside", (VIEWS,), (POOLS,), lambda _: Forward(POOLS, [None])),
]

if __name__ == "__main__":
    connections = Connections.model_validate_json(sys.argv[1])
    settings = RuntimeSettings(
        snapshot_records=150, linger_ms=10, quiet_ms=20, fetch_records=50, session_timeout_s=2, transaction_timeout_s=20
    )
    sys.exit(run(AGENTS, connections, Store(connections.store), settings, sys.argv[2], os.environ["INSTANCE"]))
