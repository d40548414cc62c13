"""What the posterior agents say to each other and to the rest: count deltas, and pointers to snapshots."""

from __future__ import annotations

import msgspec


class CountDelta(msgspec.Struct, frozen=True, array_like=True):
    """A change of the counts of one (query, item) in one bucket of event time. Integers, so that sums are exact."""

    query: str  #: normalised
    item: str
    bucket: int  #: event time // bucket width
    examined: int  #: examination mass in units of 2**-20 (EQUATIONS 6: sum of theta over shown positions)
    clicks: int
    orders: int
    squares: int = 0  #: sum of theta squared in the same units: what the fit of a prior's strength needs beside the mass


class PosteriorDelta(msgspec.Struct, frozen=True, tag_field="type", tag="posterior_delta"):
    """Counts of one partition of views emitted in ``(previous stamp, stamp]`` of event time."""

    source: int  #: partition of the views
    stamp: int  #: event time up to which this source is complete (ms)
    deltas: tuple[CountDelta, ...]
    last: bool = True  #: False: more records of the same source and stamp follow (one would be too large)
    v: int = 1


class SnapshotPointer(msgspec.Struct, frozen=True, tag_field="type", tag="snapshot"):
    """A posterior snapshot is complete for every view emitted at or before ``stamp``.

    ``path`` is relative to the store's root. ``version`` counts from 1 and grows with ``stamp``.
    """

    version: int
    stamp: int
    path: str
    sha256: str
    calibrator_version: int
    pairs: int
    v: int = 1
