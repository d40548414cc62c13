"""Keyword chains in Redis: one JSON value a query, versioned, expiring; and the counts of what the agent did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import msgspec
from redis import Redis, RedisError

from reward.text import normalise
from schemas.admission import redis_trouble
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.keywords import KeywordChain
from streams.keywords.settings import KeywordSettings

PREFIX: Final = "headrace:keywords:query:"
COUNTERS: Final = "headrace:keywords:counters"

#: Queries asked for in one command.
BATCH: Final = 500

# One step, so that two workers that were told of the same query write and count once.
_PUT: Final = """
local old = redis.call('GET', KEYS[1])
if old then
  local read, chain = pcall(cjson.decode, old)
  if read and chain.version == ARGV[2] and chain.written_ms > tonumber(ARGV[3]) - tonumber(ARGV[4]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[5])
redis.call('HINCRBY', KEYS[2], 'refreshed', 1)
return 1
"""


class RedisKeywordStore:
    """Chains by normalised query. Every method raises `Unavailable` while Redis does not answer."""

    def __init__(self, client: Redis[Any], settings: KeywordSettings | None = None) -> None:
        self._client = client
        self._settings = settings or KeywordSettings()
        self._put = client.register_script(_PUT)

    def get(self, query: str, version: str | None = None) -> KeywordChain | None:
        """The chain of a query, of that version if one is given; None if there is none that can be read."""
        with _redis():
            return _read(self._client.get(PREFIX + normalise(query)), version)

    def put(self, chain: KeywordChain) -> bool:
        """Write unless a chain of the same version is there that is not old yet; whether it was written (and counted)."""
        refresh_ms = int(self._settings.refresh_after_s * 1_000)
        arguments = [encode(chain), chain.version, chain.written_ms, refresh_ms, self._settings.expire_after_s]
        with _redis():
            return bool(self._put(keys=[PREFIX + chain.query, COUNTERS], args=arguments))

    def fresh(self, query: str, version: str, now_ms: int) -> bool:
        """Whether the query has a chain of this version that is not old at ``now_ms`` (wall time)."""
        chain = self.get(query, version)
        return chain is not None and chain.written_ms > now_ms - self._settings.refresh_after_s * 1_000

    def coverage(self, queries: Iterable[str], version: str | None = None) -> float:
        """Share of the distinct queries (in words) that have a chain; 0 where there is no query."""
        keys = sorted({normalise(query) for query in queries} - {""})
        found = 0
        with _redis():
            for low in range(0, len(keys), BATCH):
                values = cast(list[bytes | None], self._client.mget([PREFIX + key for key in keys[low : low + BATCH]]))
                found += sum(_read(value, version) is not None for value in values)
        return found / len(keys) if keys else 0.0

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter. At least once, like the agent: a record that is read again counts again."""
        with _redis():
            self._client.hincrby(COUNTERS, name, by)

    def counters(self) -> dict[str, int]:
        """``refreshed`` (chains written), ``failed`` (the writer gave up), ``skipped.<reason>`` (unreadable records)."""
        with _redis():
            counts = cast(dict[bytes | str, bytes | str], self._client.hgetall(COUNTERS))
        return {name.decode() if isinstance(name, bytes) else name: int(count) for name, count in counts.items()}

    def refreshed(self) -> int:
        """Chains written so far."""
        return self.counters().get("refreshed", 0)


def _read(value: Any, version: str | None) -> KeywordChain | None:
    """A value that cannot be read is missing: the next sight of its query writes it anew."""
    if value is None:
        return None
    try:
        chain: KeywordChain = decode(KeywordChain, value.encode() if isinstance(value, str) else value)
    except (InvalidEvent, msgspec.DecodeError):
        return None
    return chain if version in (None, chain.version) else None


@contextmanager
def _redis() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise redis_trouble("Redis", error) from error
