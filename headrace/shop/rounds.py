"""Rounds of the logical clock: searches that go to the server at once, stamped with the same moment.

Searches in flight together reach Kafka in any order. If their event times were an hour apart, the earlier ones would
count as late; so a round gathers requests that lie close together and gives them its own time, 1 ms apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from headrace.world import Request


def rounds(requests: Iterable[Request], size: int, span_ms: int) -> Iterator[list[Request]]:
    """Groups of at most ``size`` requests of different users, retimed; times grow strictly over all groups.

    A request waits for a later round when its user has one in this round already. No request is left out.

    Args:
        span_ms: a round takes no request later than this after its first one.
    """
    stream = iter(requests)
    waiting: deque[Request] = deque()
    clock = 0
    while True:
        taken: list[Request] = []
        put_off: list[Request] = []
        users: set[str] = set()
        border = None
        while len(taken) < size and len(put_off) < 4 * size:
            request = waiting.popleft() if waiting else next(stream, None)
            if request is None:
                break
            border = request.ts + span_ms if border is None else border
            if request.ts > border:
                waiting.appendleft(request)
                break
            (put_off if request.user in users else taken).append(request)
            users.add(request.user)
        if not taken:
            return
        waiting.extendleft(reversed(put_off))
        clock = max(taken[0].ts, clock)
        yield [request._replace(ts=clock + n) for n, request in enumerate(taken)]
        clock += len(taken)
