"""What the posterior agents say to each other and to the rest: count deltas, and pointers to snapshots."""

from __future__ import annotations

import msgspec


class CountDelta(msgspec.Struct, frozen=True, array_like=True):
    """A change of the counts of one (query, item) at one position in one bucket of event time. Integers: sums are exact."""

    query: str  #: normalised
    item: str
    bucket: int  #: event time // bucket width
    examined: int  #: times shown at ``position``, in units of 2**-20; at position 0 the examination mass itself
    clicks: int
    orders: int
    squares: int = 0  #: of no use since counts know their position
    position: int = 0  #: from 1; 0: mass that the examination has been applied to


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
    sha256: str  #: of the file's head, which holds a digest of every block behind it
    calibrator_version: int
    pairs: int
    examination_version: int = 0  #: snapshot that estimated the examination it counts by; 0: the settings' power
    identifiers: str = ""  #: identifiers whose prefixes are the level between item and whole; empty: there is none
    evicted: int = 0  #: pairs that merged into their items so far, for want of room
    corrector: float = 1.0  #: factor of the fast corrector, within the calibrator
    v: int = 1
