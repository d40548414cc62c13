"""A record that an agent cannot use, as an output for the quarantine topic."""

from __future__ import annotations

from schemas.codec import encode
from schemas.quarantine import RAW_LIMIT, Quarantined
from schemas.topics import QUARANTINE
from streams.runtime.core import Output, Record


def refuse(agent: str, topic: str, partition: int, record: Record, reason: str, detail: str) -> Output:
    """The quarantine output for ``record``, read from ``topic``/``partition`` by ``agent``.

    ``reason`` is a `schemas.quarantine.Reason`. The bytes are kept up to `RAW_LIMIT`, the true size beside them.
    """
    quarantined = Quarantined(
        agent=agent,
        topic=topic,
        partition=partition,
        offset=record.offset,
        reason=str(reason),
        detail=detail[:500],
        raw=record.value[:RAW_LIMIT],
        size=len(record.value),
        ts=record.timestamp,
    )
    return Output(QUARANTINE.name, agent.encode(), encode(quarantined))
