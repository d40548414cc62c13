"""A record that an agent cannot use, as an output for the quarantine topic."""

from __future__ import annotations

from schemas.codec import encode
from schemas.quarantine import RAW_LIMIT, Quarantined, Reason
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


def may_differ(output: Output) -> bool:
    """Whether it refuses an input that a recovery might not refuse: one too large, as a recovery reads without a bound, or one
    that shows an unknown item, which may have come since. The snapshot that goes with it keeps a recovery from meeting it
    again."""
    return output.topic == QUARANTINE.name and any(reason in output.value for reason in _MAY_DIFFER)


_MAY_DIFFER = [b'"reason":"%s"' % reason.value.encode() for reason in (Reason.TOO_LARGE, Reason.UNKNOWN_ITEM)]
