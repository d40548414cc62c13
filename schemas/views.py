"""A joined page view: what was shown, and what became of it so far."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.filters import Filter


class ViewStatus(StrEnum):
    """Life of a label. A later revision replaces the earlier one wherever it is kept."""

    PROVISIONAL = "provisional"  #: the click window has closed
    FINAL = "final"  #: the order window has closed and something changed since
    RETRACTED = "retracted"  #: an order was returned


class ViewItem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A shown item with its interactions; ``d_*`` is the difference to the last emitted revision of the same view."""

    item: str
    position: int
    propensity: float = 1.0
    clicks: int = 0
    orders: int = 0  #: orders not returned
    value: float = 0.0  #: of the orders not returned
    d_clicks: int = 0
    d_orders: int = 0


class View(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="view"):
    """``view_id`` is ``request_id:status:revision``; revision 1 is the first one emitted."""

    view_id: str
    request_id: str
    status: ViewStatus
    revision: int
    ts: int  #: of the impression
    emitted_at: int  #: event time of this revision's timer; never falls within a partition
    user: str
    query: str
    items: tuple[ViewItem, ...]
    session: str = ""
    recent_queries: tuple[str, ...] = ()
    recent_items: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    checkpoint: str = ""
    weights_version: int = 0
    snapshot_version: int = 0
    trace: str = ""  #: the impression's
    segment: str = ""
    market: str = ""
    support: int = 0  #: the impression's
    recent_orders: tuple[str, ...] = ()
    filter: Filter = Filter()
    v: int = 1
