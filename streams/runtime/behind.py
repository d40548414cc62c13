"""How far a reader is behind the end of its inputs: in records, and in seconds of event time."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.codec import UNREADABLE
from streams.runtime.core import Record
from streams.runtime.log import TAIL, Tail

#: A record whose event time is further ahead of the broker's time for it (ms) tells nothing about the present: it is on
#: its way to quarantine as one of the future.
AHEAD_MS = 3_600_000


class _Times(msgspec.Struct):
    ts: int = 0
    emitted_at: int = 0  # of views and examples: the event time at which they were said
    stamp: int = 0  # of deltas and snapshots


_decoder = msgspec.json.Decoder(_Times)


def event_time(record: Record) -> int:
    """Event time (ms) of a record of any topic; 0 where it has none that can be believed."""
    try:
        times = _decoder.decode(record.value)
    except UNREADABLE:
        return 0
    said = times.emitted_at or times.stamp or times.ts
    return said if 0 < said <= record.timestamp + AHEAD_MS else 0


def newest(tails: Iterable[Tail]) -> int:
    """The newest event time (ms) at these ends; 0 where there is none."""
    return max((event_time(record) for tail in tails for record in tail.records), default=0)


def records_behind(tail: Tail, following: int) -> int:
    """Records from offset ``following`` to the end: exact near the end, further off with the marks of transactions."""
    behind = max(0, tail.end - following)
    return behind if behind > TAIL else sum(record.offset >= following for record in tail.records)


def seconds_behind(newest_ms: int, watermark_ms: int) -> float | None:
    """Seconds of event time between the two; None where either is not known."""
    return max(0, newest_ms - watermark_ms) / 1_000 if newest_ms and watermark_ms else None
