"""A log in two parts: page views before a border are history, later ones are asked live. Pure functions.

What became of a view (clicks, orders, returns) goes where the view goes, whenever it happened, so that nothing of a live
view is known before it is asked.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from headrace.shop.settings import DAY_MS, FolderSettings
from headrace.world import Outcome
from schemas.events import Impression


class LoggedView(NamedTuple):
    """A page view of a log and what became of it."""

    impression: Impression
    outcome: Outcome = Outcome((), (), ())


class LogSplit(NamedTuple):
    """Both parts in order of time: every history view before ``live_ms``, every live one in ``[live_ms, end_ms)``."""

    history: tuple[LoggedView, ...]
    live: tuple[LoggedView, ...]
    live_ms: int
    end_ms: int
    note: str = ""  #: how the log was cut, and what was left out


def split_log(views: Sequence[LoggedView], settings: FolderSettings, seed: int) -> LogSplit:
    """Cut ``views`` (any order, at least one) in time, then hold each part to its bound.

    The first ``log_history_share`` of the views are history; views of one millisecond stay together, on the live side.
    What is later than ``live_days`` after the border is left out.
    """
    ordered = sorted(views, key=_time)
    first = int(settings.log_history_share * len(ordered))
    live_ms = _time(ordered[first]) if first < len(ordered) else _time(ordered[-1]) + 1
    border = bisect_left(ordered, live_ms, key=_time)
    last = bisect_left(ordered, live_ms + int(settings.live_days * DAY_MS), key=_time)
    end_ms = _time(ordered[last - 1]) + 1 if last > border else live_ms
    history = sample_users(ordered[:border], settings.log_history_views, seed)
    live = sample_users(ordered[border:last], settings.log_live_views, seed)
    note = (
        f"Of the log's {len(ordered)} page views the first {border} are history, {len(history)} of them used; of the "
        f"{len(ordered) - border} later ones {last - border} lie within {settings.live_days:g} days, {len(live)} are asked live."
    )
    return LogSplit(tuple(history), tuple(live), live_ms, end_ms, note)


def sample_users(views: Sequence[LoggedView], most: int, seed: int) -> list[LoggedView]:
    """At most ``most`` of the views, in their order: all views of users drawn by ``seed``, the last user's cut to fit.

    The draw belongs to (seed, user): two parts of a log keep the same people as far as their bounds allow.
    """
    drawn = sorted(range(len(views)), key=lambda n: (_ticket(seed, views[n].impression.user), n))
    return [views[n] for n in sorted(drawn[:most])]


def _ticket(seed: int, user: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=8).digest()


def _time(view: LoggedView) -> int:
    return view.impression.ts
