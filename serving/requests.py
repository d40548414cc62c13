"""What a search asks and what it is told: plain records, known to the engine, the server and the offline evaluation."""

from __future__ import annotations

import msgspec

from schemas.errors import InvalidRequest
from schemas.events import Click, Impression, ShownItem
from schemas.filters import Filter
from serving.filters import check_filter
from serving.settings import ServingSettings

#: Bound of ids on the wire (`schemas.events.Id`), characters.
ID_LIMIT = 128
#: Bound of segment and market (`schemas.events.Group`), characters.
GROUP_LIMIT = 64
#: Bound of event times on the wire (`schemas.events.Time`), ms: the year 2100.
TIME_LIMIT = 4_102_444_800_000
#: Smallest propensity an impression can carry; exact log-propensities are in the answer.
TINY = 5e-324


class SearchRequest(msgspec.Struct, frozen=True):
    """One search. ``ts`` is event time (ms); ``items`` empty: any; recent things come newest first."""

    request_id: str
    ts: int
    user: str
    query: str
    k: int = 10
    items: tuple[str, ...] = ()
    session: str = ""
    recent_queries: tuple[str, ...] = ()
    recent_items: tuple[str, ...] = ()
    trace: str = ""  #: W3C traceparent that the page's impression carries on
    segment: str = ""  #: what the shop says of its user: campaigns may ask for it
    market: str = ""
    filter: Filter = Filter()  #: what limits the page beside ``items``
    recent_orders: tuple[str, ...] = ()


class Scores(msgspec.Struct, frozen=True):
    """Why an item stands where it stands: the terms of the serving score (`reward.composite.serving_terms`, nats), the facts
    behind them, and their sum. ``policy``: log-probability of its identifier over the catalogue's trie."""

    policy: float
    for_relevance: float
    for_ctr: float
    for_multiplier: float  #: of campaigns
    taken_up: float  #: what the policy carries already of a change of the weights, taken out
    tier: int
    ctr: float
    total: float  #: the serving score: what the list is drawn by


class AnsweredItem(msgspec.Struct, frozen=True):
    """``propensity``: probability that this item stands here, given the items above it."""

    item: str
    sid: tuple[int, ...]
    title: str
    position: int
    scores: Scores
    propensity: float


class SearchAnswer(msgspec.Struct, frozen=True):
    """A page. ``weights_version``: of the book that ordered it, for the control share the one before. ``reason`` says why ``items`` is empty; ``notes`` what was not as asked."""

    request_id: str
    query: str
    checkpoint: str
    weights_version: int
    snapshot_version: int
    items: tuple[AnsweredItem, ...]
    list_propensity_log: float  #: nats, of the whole list in this order
    support: int = 0  #: as in `schemas.events.Impression`
    reason: str = ""
    notes: tuple[str, ...] = ()
    took_ms: float = 0.0
    campaigns: tuple[str, ...] = ()  #: ids of those that applied to what was found, the winner first
    query_truncated: bool = False  #: the prompt, and it alone, holds only the beginning of the query


def impression(request: SearchRequest, answer: SearchAnswer) -> Impression:
    """The page view that goes into the log; the answer must have items."""
    return Impression(
        ts=request.ts,
        request_id=request.request_id,
        user=request.user,
        query=request.query,
        items=tuple(ShownItem(i.item, i.position, max(i.propensity, TINY)) for i in answer.items),
        session=request.session,
        recent_queries=request.recent_queries,
        recent_items=request.recent_items,
        candidates=request.items,
        checkpoint=answer.checkpoint,
        weights_version=answer.weights_version,
        snapshot_version=answer.snapshot_version,
        trace=request.trace,
        segment=request.segment,
        market=request.market,
        support=answer.support,
        recent_orders=request.recent_orders,
        filter=request.filter,
    )


def check(request: SearchRequest, settings: ServingSettings) -> None:
    """Hold a request against the server's bounds.

    Raises:
        InvalidRequest: names the parameter, its value, its bound and what to do.
    """
    if not request.query.strip():
        raise InvalidRequest("q", request.query, f"1 to {settings.max_query} characters, not only space", "send a query")
    _length("q", request.query, settings.max_query)
    _id("user", request.user, "send the user's id")
    _length("session", request.session, ID_LIMIT)
    _length("segment", request.segment, GROUP_LIMIT)
    _length("market", request.market, GROUP_LIMIT)
    _id("X-Request-Id", request.request_id, "leave the header out")
    if not 1 <= request.k <= settings.max_k:
        remedy = "ask for fewer items, or raise serving.max_k" if request.k > settings.max_k else "ask for at least one item"
        raise InvalidRequest("k", request.k, f"1 to {settings.max_k}", remedy)
    if len(request.items) > settings.max_filter:
        raise InvalidRequest("items", len(request.items), f"at most {settings.max_filter} ids", "send a shorter filter")
    check_filter(request.filter, request.k, settings.max_filter)
    _time(request.ts)


def check_click(click: Click) -> None:
    """Hold a click against the bounds of the wire.

    Raises:
        InvalidRequest: names the parameter, its value, its bound and what to do.
    """
    _id("user", click.user, "send the id of the user who searched")
    _id("item", click.item, "send the clicked item's id, as the page has it")
    _length("request_id", click.request_id, ID_LIMIT)
    _time(click.ts)


def _id(name: str, value: str, remedy: str) -> None:
    if not value:
        raise InvalidRequest(name, value, f"1 to {ID_LIMIT} characters", remedy)
    _length(name, value, ID_LIMIT)


def _time(ts: int) -> None:
    if not 0 <= ts <= TIME_LIMIT:
        raise InvalidRequest("X-Headrace-Time", ts, f"0 to {TIME_LIMIT} ms", "send milliseconds since 1970")


def _length(name: str, value: str, bound: int) -> None:
    if len(value) > bound:
        raise InvalidRequest(name, f"{len(value)} characters", f"at most {bound} characters", "send a shorter one")
