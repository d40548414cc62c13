"""A world that is a log: its first part is the history, its later page views are asked again and answered from the log.

This replays, it does not simulate. A live request may show the items of its logged page and no other; what was clicked
or ordered there counts wherever the new page shows the item, and does not happen where the new page leaves it out. So
the log's own order keeps an advantage (people clicked what they were shown first), and no item outside the logged page
can win a click. Adapters with a simulator replace the live part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.adapters.log_split import LoggedView, LogSplit
from headrace.context import with_context
from headrace.shop.settings import DAY_MS
from headrace.world import Event, Outcome, Request
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue

REPLAYED = (
    "The live part is replayed, not simulated: a search may show the items of its logged page, and a logged click or order "
    "counts wherever the page shows the item. No effect of the position is in it, so it favours the logged order; "
    "the click probability is the logged click, 0 or 1."
)


class LoggedWorld:
    """The two parts of ``log``, already at their moved times."""

    def __init__(self, name: str, catalogue: Catalogue, judgments: Sequence[Judgment], log: LogSplit) -> None:
        self.name, self.catalogue, self.judgments = name, catalogue, judgments
        self._history = sorted((event for view in log.history for event in _events(view)), key=attrgetter("ts"))
        self._views = {view.impression.request_id: view for view in log.live}
        self.start_ms = min([log.live_ms, *(event.ts for event in self._history[:1])])
        self.live_ms, self.drift_ms, self.end_ms = log.live_ms, log.end_ms, log.end_ms
        self._tier = {(judgment.query, judgment.item): judgment.tier for judgment in judgments}
        self._note = log.note

    @property
    def notes(self) -> tuple[str, ...]:
        """How the log was cut, and what its live part can and cannot tell."""
        known = sum(self.labelled(request) for request in self.requests())
        return self._note, REPLAYED, _labels_note(known, len(self._views))

    def history(self) -> Iterator[Event]:
        """The first part in time order, with each user's recent past in the impressions."""
        return with_context(self._history)

    def requests(self) -> Iterator[Request]:
        """The later page views as searches; candidates are the items of the logged page, in its order."""
        for view in self._views.values():
            page = view.impression
            items = tuple(shown.item for shown in page.items)
            yield Request(page.request_id, page.ts, page.user, page.session, page.query, items, page.segment, page.market)

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """The logged clicks and orders on the items of ``shown``, as long after the request as they were after the view.

        Raises:
            InvalidValue: the request is none of `requests`.
        """
        view = self._view(request)
        place = {item: n for n, item in enumerate(shown, start=1)}
        moved = request.ts - view.impression.ts
        orders = [order for order in view.outcome.orders if order.item in place]
        kept = {order.order_id for order in orders}
        return Outcome(
            tuple(
                msgspec.structs.replace(click, ts=click.ts + moved, position=place[click.item])
                for click in view.outcome.clicks
                if click.item in place
            ),
            tuple(msgspec.structs.replace(order, ts=order.ts + moved) for order in orders),
            tuple(
                msgspec.structs.replace(back, ts=back.ts + moved) for back in view.outcome.returns if back.order_id in kept
            ),
        )

    def tiers(self, query: str, items: Sequence[str]) -> NDArray[np.int8]:
        """Judged tiers [N]; 0 for pairs without a judgment."""
        return np.array([self._tier.get((query, item), 0) for item in items], dtype=np.int8)

    def labelled(self, request: Request) -> bool:
        """Whether any candidate of the request has a judgment for its query."""
        return any((request.query, item) in self._tier for item in request.candidates)

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """1 for items [N] that the log shows clicked on this page, else 0: a log knows what happened, not how likely it was.

        Raises:
            InvalidValue: the request is none of `requests`.
        """
        clicked = {click.item for click in self._view(request).outcome.clicks}
        return np.array([item in clicked for item in items], dtype=np.float64)

    def _view(self, request: Request) -> LoggedView:
        if request.request_id not in self._views:
            raise InvalidValue("request", request.request_id, "one of requests()", "take requests from this world")
        return self._views[request.request_id]


def scattered(items: Iterable[str]) -> list[str]:
    """The ids in an order that says nothing (by their hash), for a catalogue that is made from a log's pages.

    In the order of first sight, ties between unknown items would go to what the log showed first: the answer itself.
    """
    return sorted(items, key=lambda item: hashlib.blake2b(item.encode(), digest_size=8).digest())


def _labels_note(known: int, views: int) -> str:
    ndcg = f"ndcg10 is over these {known}" if known else "ndcg10 is not known"
    return (
        f"{known} of {views} live page views have a relevance label: {ndcg}, and reward_per_search counts the tier of an "
        "item without a label as 0."
    )


def shift_ms(end_ms: int, now_ms: int, quiet_days: float) -> int:
    """By how much to move a time line that ends at ``end_ms``: whole days, to end ``quiet_days`` or more before now."""
    return (now_ms - int(quiet_days * DAY_MS) - end_ms) // DAY_MS * DAY_MS


def _events(view: LoggedView) -> tuple[Event, ...]:
    return (view.impression, *view.outcome.clicks, *view.outcome.orders, *view.outcome.returns)
