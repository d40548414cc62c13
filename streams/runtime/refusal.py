"""A record that an agent cannot use, as an output for the quarantine topic."""

from __future__ import annotations

from typing import Final

from schemas.codec import MAX_RECORD_BYTES, encode
from schemas.quarantine import RAW_LIMIT, Quarantined, Reason
from schemas.topics import QUARANTINE
from streams.runtime.core import Output, Record

#: Longest piece of what is wrong with a batch that its stand-in tells (characters).
TOLD_LIMIT: Final = 500
#: One for all stand-ins: a fetch of a few megabytes can ask for tens of thousands of them.
_TOO_LARGE: Final = b" " * (MAX_RECORD_BYTES + 1)


class StandIn(Record, frozen=True, gc=False):
    """Stands for a batch that is passed over, at its last offset: larger than any record may be, so that whoever decodes it
    refuses it for its size. ``told``: what it stands for, which quarantine keeps in place of its bytes."""

    told: bytes

    @classmethod
    def of(cls, topic: str, partition: int, first: int, last: int, timestamp: int, why: str) -> StandIn:
        """For the batch of these offsets."""
        told = f"{topic}/{partition}, offsets {first} to {last}: {why[:TOLD_LIMIT]}"
        return cls(last, timestamp, None, _TOO_LARGE, told.encode(errors="replace"))


def refuse(agent: str, topic: str, partition: int, record: Record, reason: str, detail: str) -> Output:
    """The quarantine output for ``record``, read from ``topic``/``partition`` by ``agent``.

    ``reason`` is a `schemas.quarantine.Reason`. The bytes are kept up to `RAW_LIMIT` (of a stand-in what it stands for), the
    true size beside them.
    """
    quarantined = Quarantined(
        agent=agent,
        topic=topic,
        partition=partition,
        offset=record.offset,
        reason=str(reason),
        detail=detail[:500],
        raw=record.told if isinstance(record, StandIn) else record.value[:RAW_LIMIT],
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
