"""Recent answers by request id: a repeated request is the same page view, answered and logged once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from schemas.errors import Conflict
from serving.requests import SearchAnswer, SearchRequest


@dataclass
class Reply:
    """``logged``: its impression is confirmed. Whoever works on it holds the lock."""

    asked: tuple[object, ...]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    request: SearchRequest | None = None  #: with the history it was answered by
    answer: SearchAnswer | None = None
    logged: bool = False


class Replies:
    """The last ``limit`` request ids. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[str, Reply] = OrderedDict()

    def of(self, request: SearchRequest) -> Reply:
        """The reply of this request id, a fresh one if it is new.

        Raises:
            Conflict: the id was used for another search.
        """
        about = (request.session, request.segment, request.market)
        asked = (request.user, request.query, request.k, request.items, request.filter, *about)
        reply = self._known.get(request.request_id)
        if reply is None:
            reply = self._known[request.request_id] = Reply(asked)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        elif reply.asked != asked:
            raise Conflict(
                f"request id {request.request_id}", "an earlier search with other parameters", "use a fresh X-Request-Id"
            )
        return reply
