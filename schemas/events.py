"""What shops send: impressions, clicks, orders, returns, new items, and the ticks of whoever owns the clock.

All times are event time in milliseconds since 1970. Events are keyed by user, so that what belongs together meets in
one partition.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.filters import Filter

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Time = Annotated[int, Meta(ge=0, le=4_102_444_800_000)]  # until 2100
Position = Annotated[int, Meta(ge=1, le=10_000)]
Trace = Annotated[str, Meta(max_length=64)]
Group = Annotated[str, Meta(max_length=64)]
Fact = Annotated[str, Meta(max_length=1_000)]

#: Chance of standing on a position from which a candidate counts in an impression's ``support``.
SUPPORT_FLOOR = 0.05


class ShownItem(msgspec.Struct, frozen=True, gc=False):
    """An item on the page. ``propensity``: probability that this item stood here, given the items above it, in (0, 1]."""

    item: Id
    position: Position
    propensity: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Impression(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="impression"):
    """One page view. The product of its items' propensities is the probability of the list."""

    ts: Time
    request_id: Id
    user: Id
    query: Annotated[str, Meta(max_length=1_000)]
    items: Annotated[tuple[ShownItem, ...], Meta(min_length=1, max_length=1_000)]
    session: str = ""
    recent_queries: tuple[str, ...] = ()  #: the user's queries before this one, newest first: the prompt's context
    recent_items: tuple[str, ...] = ()  #: the user's clicked items before this request, newest first
    candidates: tuple[str, ...] = ()  #: the request's own filter, empty when it had none
    checkpoint: str = ""  #: the policy that answered
    weights_version: int = 0
    snapshot_version: int = 0
    trace: Trace = ""  #: W3C traceparent of the search; carried to the training example, shapes nothing
    segment: Group = ""  #: what the shop says of its user, for the scope of campaigns; empty: nothing
    market: Group = ""
    #: Summed over the positions: how many candidates had a chance of `SUPPORT_FLOOR` or more to stand there, given the items
    #: above; 0: not known. Against it the propensities are checked (`streams.integrity.checks.Draws`).
    support: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    recent_orders: tuple[str, ...] = ()  #: the user's ordered items before this request, newest first
    filter: Filter = Filter()  #: what limited the page beside ``candidates``
    v: int = 1


class Click(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="click"):
    """A click. Without ``request_id`` it belongs to the user's latest view that shows the item."""

    ts: Time
    user: Id
    item: Id
    request_id: str = ""
    position: Annotated[int, Meta(ge=0, le=10_000)] = 0  #: 0: not known
    v: int = 1


class Order(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="order"):
    """An order of one item; it belongs to the user's last click on that item inside the window."""

    ts: Time
    user: Id
    item: Id
    order_id: Id
    value: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  #: in the shop's currency
    v: int = 1


class Return(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="return"):
    """Takes back the order it names, or ``value`` of it. Travels in `search.orders`."""

    ts: Time
    user: Id
    order_id: Id
    value: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  #: what came back, in the shop's currency; 0: the whole order
    v: int = 1


class ItemAdded(msgspec.Struct, frozen=True, tag_field="type", tag="item_added"):
    """An item is new, is described otherwise, or is gone; its identifier is assigned under ``codebook_version`` by the topic's
    one writer. Category, brand and price hold until a later record says others.
    """

    ts: Time
    item: Id
    title: str
    sid: tuple[int, ...]  #: empty: the item is removed
    codebook_version: str
    freed: tuple[int, ...] = ()  #: the identifier that the item gives up with this; empty: none
    category: Fact = ""  #: empty: nothing is said of it
    brand: Fact = ""  #: empty: nothing is said of it
    price: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  #: in the shop's currency; 0: nothing is said of it
    v: int = 1


class Tick(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="tick"):
    """The present time, sent to every partition of an input by whoever owns the clock; moves the watermark in silence.

    Derived topics carry it too: there it says that no later record of this partition is emitted before ``ts``.
    """

    ts: Time
    v: int = 1


#: What travels in the event topics.
Event = Impression | Click | Order | Return | Tick
