"""Peer `plain loop`: the same core fed from memory, chunk after chunk, without Kafka or Faust."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.workload import TOPICS, Delivered, load
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.settings import AttributionSettings

#: Events that come at a time, over all topics of a partition: about what a fetch of 1 MiB of page views brings.
CHUNK = 2_000

Chunk = list[tuple[str, list[Record]]]


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: log (file), partitions, rules."""
    log = load(Path(job["log"]))
    chunked = [list(chunks(log, partition)) for partition in range(job["partitions"])]
    del log
    settings = AttributionSettings(**job["rules"])
    tell("first")
    outputs = 0
    for partition, feed in enumerate(chunked):
        core = AttributionCore(partition, settings)
        for chunk in feed:
            for topic, records in chunk:
                core.apply(topic, records)
                core.advance()
            outputs += len(core.drain()[0])
    tell("end", outputs=outputs)


def chunks(log: Sequence[Delivered], partition: int) -> Iterator[Chunk]:
    """What polls of that partition would bring."""
    offsets = [0] * len(TOPICS)
    mine = [record for record in log if record.partition == partition]
    for n in range(0, len(mine), CHUNK):
        taken: list[list[Record]] = [[] for _ in TOPICS]
        for record in mine[n : n + CHUNK]:
            taken[record.topic].append(Record(offsets[record.topic], record.timestamp, record.key, record.value))
            offsets[record.topic] += 1
        yield [(name, records) for name, records in zip(TOPICS, taken, strict=True) if records]
