"""Who searches what and when: sessions of a few related queries, more in the evening than at night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.shop.queries import Query
from headrace.shop.users import MARKETS, SEGMENTS, Users
from headrace.shop.vocabulary import CATEGORIES
from headrace.world import Request

#: Relative traffic by hour of the day.
HOURLY = np.array([2, 1, 1, 1, 1, 2, 3, 4, 6, 7, 8, 8, 8, 8, 7, 7, 7, 8, 9, 10, 10, 9, 6, 4], dtype=np.float64)
HOUR_MS = 3_600_000


def requests(
    name: str,
    count: int,
    span_ms: tuple[int, int],
    queries: Sequence[Query],
    share_Q: NDArray[np.float64],
    users: Users,
    own_category: float,
    rng: np.random.Generator,
) -> Iterator[Request]:
    """``count`` requests with times in ``[span_ms[0], span_ms[1])``, in time order; ids are ``name`` and a number.

    Args:
        share_Q: popularity of the queries [Q]; zero for those that nobody asks in this span.
        own_category: share of sessions that stay in one of the user's favourite categories.
    """
    if count == 0:
        return
    session_R, starts_S = _sessions(count, span_ms, rng)
    sessions = len(starts_S)
    user_S = rng.choice(len(users.activity_U), sessions, p=users.activity_U)
    favourite_S = users.categories_U3[user_S, rng.integers(0, 3, sessions)]
    topic_S = np.where(rng.random(sessions) < own_category, favourite_S, -1)
    query_R = _choose(topic_S[session_R], queries, share_Q, rng)
    first_R = np.r_[True, session_R[1:] != session_R[:-1]]
    gap_R = np.where(first_R, 0.0, rng.lognormal(np.log(75_000), 0.5, count))
    since_R = np.cumsum(gap_R)
    since_R -= np.maximum.accumulate(np.where(first_R, since_R, 0.0))
    ts_R = np.clip(starts_S[session_R] + since_R, span_ms[0], span_ms[1] - 1).astype(np.int64)
    for number, r in enumerate(np.argsort(ts_R, kind="stable").tolist()):
        session = int(session_R[r])
        user = int(user_S[session])
        yield Request(
            f"{name}{number:07d}", int(ts_R[r]), f"u{user}", f"{name}s{session}", queries[int(query_R[r])].text,
            segment=SEGMENTS[users.segment_U[user]], market=MARKETS[users.market_U[user]],
        )  # fmt: skip


def _sessions(
    count: int, span_ms: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    lengths = np.minimum(rng.geometric(0.5, count), 6)
    session_R = np.repeat(np.arange(count), lengths)[:count]
    sessions = int(session_R[-1]) + 1
    hours = max(1, -(-(span_ms[1] - span_ms[0]) // HOUR_MS))
    weight_H = HOURLY[(span_ms[0] // HOUR_MS + np.arange(hours)) % 24]
    hour_S = rng.choice(hours, sessions, p=weight_H / weight_H.sum())
    return session_R, span_ms[0] + (hour_S + rng.random(sessions)) * HOUR_MS


def _choose(
    topic_R: NDArray[np.int64], queries: Sequence[Query], share_Q: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    category_Q = np.array([query.category for query in queries])
    u_R = rng.random(len(topic_R))
    chosen_R = np.zeros(len(topic_R), dtype=np.int64)
    for topic in range(-1, len(CATEGORIES)):
        mine_R = topic_R == topic
        weight_Q = share_Q * (category_Q == topic) if topic >= 0 else share_Q
        if weight_Q.sum() == 0:  # nobody asks for anything in this category: such a session asks what everybody asks
            weight_Q = share_Q
        edges_Q = np.cumsum(weight_Q / weight_Q.sum())
        last = int(np.flatnonzero(weight_Q)[-1])  # rounding may leave the last edge just below 1
        chosen_R[mine_R] = np.minimum(np.searchsorted(edges_Q, u_R[mine_R], side="right"), last)
    return chosen_R
