"""The simulated shop as a `World`: catalogue, people, a logged past, live requests, and feedback for any ranking.

The whole time line lies before ``now_ms``: history, then the live part, then quiet days in which the click, order and
return windows close. Half-way of the live part a share of the items draws its hidden appeal anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headrace.context import with_context
from headrace.shop import behaviour
from headrace.shop.catalogue import build_catalogue, build_columns
from headrace.shop.draws import item_draws, stream
from headrace.shop.judging import sample_judgments
from headrace.shop.lexical import LexicalSearch
from headrace.shop.queries import Query, build_queries, tier_of
from headrace.shop.settings import DAY_MS, ShopSettings
from headrace.shop.traffic import requests
from headrace.shop.users import build_users
from headrace.world import Event, Outcome, Request
from reward.judgments import Judgment
from schemas.errors import InvalidSetting, InvalidValue
from schemas.events import Click, Impression, Order, Return, ShownItem

#: New items appear in this first part of the live part, so that there is time to meet them.
ARRIVALS = 0.8


class ShopWorld:
    """The shop of ``settings`` whose present is ``now_ms`` (event time, ms)."""

    name = "shop"
    notes: tuple[str, ...] = ()

    def __init__(self, settings: ShopSettings, now_ms: int) -> None:
        self.settings = settings
        self.end_ms = now_ms - int(settings.quiet_days * DAY_MS)
        self.live_ms = self.end_ms - int(settings.live_days * DAY_MS)
        self.start_ms = self.live_ms - int(settings.history_days * DAY_MS)
        self.drift_ms = (self.live_ms + self.end_ms) // 2
        if self.start_ms < 0:
            raise InvalidSetting("now_ms", now_ms, "late enough for the history to start after 1970", "use the present")
        n, seed = settings.items, settings.seed
        rng = stream(seed, "world")
        arrives_N = self.live_ms + rng.random(n) * ARRIVALS * (self.end_ms - self.live_ms)
        new_N = rng.random(n) < settings.new_item_share
        self.columns = build_columns(n, seed)
        self.catalogue = build_catalogue(self.columns, np.where(new_N, arrives_N, 0).astype(np.int64), seed)
        self.users = build_users(settings.users, seed)
        self.queries = build_queries(settings.queries, self.columns, seed)
        self._query = {query.text: query for query in self.queries}
        self._popularity_Q = np.arange(1.0, len(self.queries) + 1) ** -settings.zipf
        self._fresh_Q = rng.random(len(self.queries)) < settings.new_query_share
        self._fresh_Q[0] = False  # at least one query has a past
        self._appeal_N = rng.normal(0, settings.appeal_sd, n)
        redrawn_N = rng.random(n) < settings.drift_share
        self._appeal_later_N = np.where(redrawn_N, rng.normal(0, settings.appeal_sd, n), self._appeal_N)

    @cached_property
    def judgments(self) -> Sequence[Judgment]:
        """Labels of a share of the history's queries, a little noisy."""
        judged = [query for query, fresh in zip(self.queries, self._fresh_Q, strict=True) if not fresh]
        return sample_judgments(judged, self.columns, self.catalogue, self.settings)

    def history(self) -> Iterator[Event]:
        """Page views of the shop's old search and what became of them, in time order."""
        return with_context(self._history())

    def _history(self) -> Iterator[Event]:
        s = self.settings
        on_sale = np.flatnonzero(self.catalogue.available_from_N == 0)
        search = LexicalSearch(self.catalogue.titles, on_sale, s.seed)
        waiting: list[tuple[int, int, Event]] = []
        number = 0
        for request in self._traffic("h", s.history_impressions, (self.start_ms, self.live_ms), ~self._fresh_Q):
            while waiting and waiting[0][0] <= request.ts:
                yield heapq.heappop(waiting)[2]
            impression = self._logged(request, search)
            yield impression
            for event in _flat(self.feedback(request, [shown.item for shown in impression.items])):
                number += 1
                heapq.heappush(waiting, (event.ts, number, event))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def requests(self) -> Iterator[Request]:
        """Live searches in time order; some of the queries are new."""
        everybody_Q = np.ones(len(self.queries), dtype=np.bool_)
        return self._traffic("r", self.settings.live_requests, (self.live_ms, self.end_ms), everybody_Q)

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """Clicks, orders and returns for the items ``shown``, first on position 1."""
        rows_N = self._rows(shown)
        p_N = self.click_probability(request, shown) * behaviour.examination(len(shown), self.settings.position_power)
        draws_NW = item_draws(self.settings.seed, request.request_id, rows_N)
        order_p_N = np.array(self.settings.order_share)[self.tiers(request.query, shown)]
        likes_N = self.users.likes_category(self.users.number(request.user), self.columns, rows_N)
        order_p_N = order_p_N * np.where(likes_N, 1.3, 0.8)
        clicks, orders, returns = [], [], []
        for n in np.flatnonzero(draws_NW[:, behaviour.CLICK] < p_N).tolist():
            u_W, item = draws_NW[n], shown[n]
            ts = request.ts + 1 + behaviour.delay_ms(u_W[behaviour.CLICK_DELAY], behaviour.CLICK_AFTER)
            clicks.append(Click(ts, request.user, item, request.request_id, n + 1))
            if u_W[behaviour.ORDER] >= order_p_N[n]:
                continue
            ts += 1 + behaviour.delay_ms(u_W[behaviour.ORDER_DELAY], behaviour.ORDER_AFTER)
            order_id = f"o-{request.request_id}-{item}"
            orders.append(Order(ts, request.user, item, order_id, float(self.catalogue.prices_N[rows_N[n]])))
            if u_W[behaviour.RETURN] < self.settings.return_share:
                ts += 1 + behaviour.delay_ms(u_W[behaviour.RETURN_DELAY], behaviour.RETURN_AFTER)
                returns.append(Return(ts, request.user, order_id))
        return Outcome(tuple(clicks), tuple(orders), tuple(returns))

    def tiers(self, query: str, items: Sequence[str]) -> NDArray[np.int8]:
        """True tiers [N]; see `headrace.shop.queries`."""
        return tier_of(self._known(query), self.columns, self._rows(items))

    def labelled(self, request: Request) -> bool:
        """Every tier is known here."""
        return True

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """Probability [N] of a click on an examined item at the request's time."""
        rows_N = self._rows(items)
        appeal_N = self._appeal_N if request.ts < self.drift_ms else self._appeal_later_N
        taste_N = self.users.taste(self.users.number(request.user), self.columns, rows_N)
        return behaviour.attraction(self.tiers(request.query, items), appeal_N[rows_N], taste_N)

    def _traffic(self, name: str, count: int, span_ms: tuple[int, int], asked_Q: NDArray[np.bool_]) -> Iterator[Request]:
        s = self.settings
        share_Q = self._popularity_Q * asked_Q
        rng = stream(s.seed, "traffic", name)
        return requests(name, count, span_ms, self.queries, share_Q, self.users, s.own_category, rng)

    def _logged(self, request: Request, search: LexicalSearch) -> Impression:
        rng = stream(self.settings.seed, "logged", request.request_id)
        page = search.sample(request.query, self.settings.page, self.settings.temperature, rng)
        shown = tuple(
            ShownItem(self.catalogue.items[row], position, propensity)
            for position, (row, propensity) in enumerate(
                zip(page.rows_K.tolist(), page.propensity_K.tolist(), strict=True), start=1
            )
        )
        return Impression(
            request.ts, request.request_id, request.user, request.query, shown, request.session,
            segment=request.segment, market=request.market, support=page.support,
        )  # fmt: skip

    def _rows(self, items: Sequence[str]) -> NDArray[np.int64]:
        try:
            return np.array([self.catalogue.row[item] for item in items], dtype=np.int64)
        except KeyError as error:
            raise InvalidValue("item", error.args[0], "one of the catalogue", "show items of this world") from error

    def _known(self, query: str) -> Query:
        if query not in self._query:
            raise InvalidValue("query", query, "one of the shop's queries", "take queries from the world's requests")
        return self._query[query]


def _flat(outcome: Outcome) -> tuple[Event, ...]:
    return (*outcome.clicks, *outcome.orders, *outcome.returns)
