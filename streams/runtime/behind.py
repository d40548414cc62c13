"""How far a reader is behind the end of its inputs: in records, and in seconds of event time."""

from __future__ import annotations

from collections.abc import Mapping

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


def newest(tail: Tail) -> int:
    """The newest event time (ms) at that end; 0 where there is none."""
    return max((event_time(record) for record in tail.records), default=0)


def records_behind(tail: Tail, following: int) -> int:
    """Records from offset ``following`` to the end: exact near the end, further off with the marks of transactions."""
    behind = max(0, tail.end - following)
    return behind if behind > TAIL else sum(record.offset >= following for record in tail.records)


def seconds_behind(
    tails: Mapping[str, Tail], following: Mapping[str, int], reached: Mapping[str, int], watermark_ms: int
) -> float | None:
    """Seconds of event time that a reader has still to go, on the input where that is most.

    From what it took last of an input (``reached``, ms; where that is not told its watermark) to the newest at the end. 0 where
    it has taken everything (its next offsets are ``following``), None where a time is not known.
    """
    waiting = {topic: newest(tail) for topic, tail in tails.items() if records_behind(tail, following[topic])}
    if not waiting:
        return 0.0
    ways = [(end, reached.get(topic) or watermark_ms) for topic, end in waiting.items()]
    return max((max(0, end - start) / 1_000 for end, start in ways if end and start), default=None)
