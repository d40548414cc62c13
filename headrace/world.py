"""A world to shop in: its catalogue, its logged past, its live requests, and how its people answer any ranking.

The driver, the demo and the evaluation know shops only through this protocol: the embedded simulator, a folder of a
user's own data, real click logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.events import Click, Impression, Order, Return

#: What a log holds. New items are not among them: the catalogue's ``available_from`` says when one appears.
Event = Impression | Click | Order | Return


class Request(NamedTuple):
    """A search: who asks what, and when (event time, ms). ``candidates`` empty: the whole catalogue may be shown.
    ``segment`` and ``market`` are what the shop says of the user.
    """

    request_id: str
    ts: int
    user: str
    session: str
    query: str
    candidates: tuple[str, ...] = ()
    segment: str = ""
    market: str = ""


class Outcome(NamedTuple):
    """What people do with a page, with event times after the request's."""

    clicks: tuple[Click, ...]
    orders: tuple[Order, ...]
    returns: tuple[Return, ...]


class World(Protocol):
    """N items, requests in time order, and answers that are the same draws for any ranking."""

    name: str
    start_ms: int  #: first event of the history
    live_ms: int  #: border between history and live part
    drift_ms: int  #: when the taste changes; ``end_ms`` if it does not
    end_ms: int  #: after the last live request

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that every report on this world has to say; none for a simulator, which knows the whole truth."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """All items, those that appear later included."""
        ...

    @property
    def judgments(self) -> Sequence[Judgment]:
        """Human labels of (query, item), tiers 0..3."""
        ...

    def history(self) -> Iterator[Event]:
        """Logged events in time order; clicks, orders and returns of the last impressions may lie after ``live_ms``."""
        ...

    def requests(self) -> Iterator[Request]:
        """Live requests in time order, all in ``[live_ms, end_ms)``."""
        ...

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """What the user does with the list ``shown`` (first is position 1); the same each time it is asked.

        Random numbers belong to (request, item); a log answers with what it recorded.
        """
        ...

    def tiers(self, query: str, items: Sequence[str]) -> NDArray[np.int8]:
        """True relevance tiers [N] of ``items``, 0 where nobody knows; for evaluation only."""
        ...

    def labelled(self, request: Request) -> bool:
        """Whether the true tier of anything that the request may show is known; for evaluation only."""
        ...

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """Probability [N] of a click on an examined item (before position), a logged click as 0 or 1; for evaluation only."""
        ...
