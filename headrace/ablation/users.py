"""What a user did lately, in memory: what `serving.history` keeps in Redis, by the same rules."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from serving.settings import EngineSettings


class Recent(NamedTuple):
    """Newest first, each once."""

    queries: tuple[str, ...]
    items: tuple[str, ...]


class Users:
    """Recent queries and clicked items by user; a later time of the same thing wins."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._queries: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._items: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def asked(self, user: str, query: str, ts: int) -> None:
        """Remember a query."""
        _add(self._queries[user], query, ts)

    def clicked(self, user: str, item: str, ts: int) -> None:
        """Remember a click; it may lie in the future of the next search."""
        _add(self._items[user], item, ts)

    def recent(self, user: str, before_ms: int) -> Recent:
        """The user's past before ``before_ms``."""
        queries = _newest(self._queries[user], before_ms, self._settings.recent_queries)
        return Recent(queries, _newest(self._items[user], before_ms, self._settings.recent_items))


def _add(times: dict[str, int], what: str, ts: int) -> None:
    times[what] = max(ts, times.get(what, ts))


def _newest(times: dict[str, int], before_ms: int, most: int) -> tuple[str, ...]:
    past = sorted(((ts, what) for what, ts in times.items() if ts < before_ms), reverse=True)
    return tuple(what for _, what in past[:most])
