"""The state of one partition of the join. Everything here is plain data, so that a dump is one msgpack encoding.

Accepted records wait in buckets of one second of event time; a bucket is fired as a whole once the watermark has
passed its end, so the order of arrival between topics cannot show.
"""

from __future__ import annotations

from heapq import heappush

import msgspec

#: Width of a bucket (ms of event time).
BUCKET_MS = 1_000


class Waiting(msgspec.Struct, array_like=True):
    """An accepted record that waits for its bucket; raw bytes and place are kept, in case it ends in quarantine."""

    ts: int
    id: str  #: request id, item or order id: the tie-break inside a bucket
    topic: str
    offset: int
    timestamp: int  #: broker's time (ms)
    raw: bytes


class OpenView(msgspec.Struct, array_like=True):
    """A view whose label may still change. ``raw`` is dropped at its close when nothing more can be emitted for it."""

    ts: int
    request_id: str
    user: str
    raw: bytes
    clicks: list[tuple[str, int]] = []  #: (item, ts), each once
    orders: list[tuple[str, int, str, float]] = []  #: (order id, ts, item, value), those not returned
    revision: int = 0
    sent: dict[str, tuple[int, int]] = {}  #: item -> (clicks, orders) of the last emitted revision
    holds: int = 0  #: orders that may still be returned
    over: bool = False  #: its order window has ended


class OpenOrder(msgspec.Struct, array_like=True):
    """An order that can still be returned, or named again by a contradiction."""

    ts: int
    user: str
    item: str
    value: float
    view: int
    returned: int = -1  #: event time of its return


class Bucket(msgspec.Struct, array_like=True):
    """What is due in one second of event time, in the order in which it is fired."""

    impressions: list[Waiting] = []
    clicks: list[Waiting] = []
    orders: list[Waiting] = []
    returns: list[Waiting] = []
    closes: list[int] = []  #: views whose click window ends
    finals: list[int] = []  #: views whose order window ends
    forgets: list[str] = []  #: orders whose return window ends


class State(msgspec.Struct):
    """All of it. ``newest`` holds each topic's running maximum of event time; -1 before its first record."""

    newest: dict[str, int]
    counters: dict[str, int] = {}
    frontier: int = 0  #: event time up to which buckets have been fired (ms)
    marks: list[int] = []  #: heap of tick times to pass on
    due: list[int] = []  #: heap of the keys of ``buckets``
    buckets: dict[int, Bucket] = {}
    serial: int = 0  #: number of the next view
    views: dict[int, OpenView] = {}
    requests: dict[str, int] = {}  #: request id -> view, until its order window ends
    recent: dict[str, list[int]] = {}  #: user -> views inside their click window, oldest first
    clicked: dict[str, dict[str, list[tuple[int, int]]]] = {}  #: user -> item -> (click ts, view), oldest first
    orders: dict[str, OpenOrder] = {}

    def bucket(self, ts: int) -> Bucket:
        """The bucket of an event time, made when it is not there."""
        key = ts // BUCKET_MS
        found = self.buckets.get(key)
        if found is None:
            found = self.buckets[key] = Bucket()
            heappush(self.due, key)
        return found
