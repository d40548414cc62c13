"""What cannot be read or joined, kept with its reason and its bytes, so that a person can look at it and replay it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a record is in quarantine. A code, stable across versions."""

    UNREADABLE = "unreadable"  #: not JSON, not UTF-8, nested too deep
    TOO_LARGE = "too_large"  #: over the size bound
    UNKNOWN_VERSION = "unknown_version"  #: schema version this reader does not take
    INVALID = "invalid"  #: a field is missing, of a wrong type or out of its bound (a position below 1)
    FUTURE = "future"  #: event time too far ahead of the broker's time for its record
    LATE = "late"  #: below its topic's running maximum less the allowed lateness
    UNKNOWN_REQUEST = "unknown_request"  #: a click for a request that is not open
    OUTSIDE_WINDOW = "outside_window"  #: a click or a return after its window
    NO_CLICK = "no_click"  #: an order that no click of the user explains
    UNKNOWN_ORDER = "unknown_order"  #: a return that names no open order
    NOT_SHOWN = "not_shown"  #: a click on an item that its view did not show, or shows to nobody
    UNKNOWN_ITEM = "unknown_item"  #: an impression that shows an item the catalogue does not have
    CONTRADICTION = "contradiction"  #: the same id with another content
    OTHER_CODEBOOK = "other_codebook"  #: an item's identifier of another codebook than the run's
    BROKEN_WINDOW = "broken_window"  #: an example of a stretch in which the log was broken; `headrace integrity release`


class Quarantined(msgspec.Struct, frozen=True, tag_field="type", tag="quarantined"):
    """One quarantined record. ``raw`` is base64 in JSON; it is cut to `RAW_LIMIT` bytes, ``size`` is the true size."""

    agent: str
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    raw: bytes
    size: int
    ts: int  #: broker's time of the record (ms)
    v: int = 1


class Replayed(msgspec.Struct, frozen=True, tag_field="type", tag="replayed"):
    """The quarantined record at ``offset`` of the same partition was sent to its topic again."""

    offset: int
    at_ms: int  #: wall time
    v: int = 1


#: Longest piece of a record's bytes that quarantine keeps (bytes).
RAW_LIMIT = 64_000
