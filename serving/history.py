"""What a user did lately, in Redis: recent queries, written at each search; recent clicked and ordered items, from the log.

What a search finds here goes into its prompt and into its impression, and from there, unchanged, to the learner's prompt.
Three sorted sets a user, scored by event time. Adding is idempotent (the later time wins), so records that are read twice
or late change nothing, and a search sees only what lies before its own time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.exceptions import RedisError

from schemas.admission import redis_trouble
from schemas.clients import redis_async, redis_client
from schemas.connections import Connections
from schemas.events import Click, Order
from serving.settings import ServingSettings

#: Kept beyond what a request takes: later clicks than the request's time may already be there.
SPARE = 20


class Recent(NamedTuple):
    """Newest first, each once."""

    queries: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()

    def fields(self) -> dict[str, tuple[str, ...]]:
        """Under the names that requests and impressions have for them."""
        return {"recent_queries": self.queries, "recent_items": self.items, "recent_orders": self.orders}


class History:
    """The searches' side: asynchronous, one round trip a call."""

    def __init__(self, connections: Connections, settings: ServingSettings) -> None:
        self._settings = settings
        self._redis = redis_async(connections, socket_timeout=2.0, socket_connect_timeout=2.0)

    async def recent(self, user: str, before_ms: int) -> Recent:
        """The user's past before ``before_ms``; empty for an unknown user.

        Raises:
            Unavailable: Redis does not answer.
        """
        engine = self._settings.engine
        top = f"({before_ms}"
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zrevrangebyscore(_key(self._settings, user, "q"), top, "-inf", 0, engine.recent_queries)
                pipe.zrevrangebyscore(_key(self._settings, user, "i"), top, "-inf", 0, engine.recent_items)
                pipe.zrevrangebyscore(_key(self._settings, user, "o"), top, "-inf", 0, engine.recent_orders)
                queries, items, orders = await pipe.execute()
        except (RedisError, OSError) as error:
            raise redis_trouble("user history in Redis", error) from error
        return Recent(*(tuple(member.decode() for member in members) for members in (queries, items, orders)))

    async def asked(self, user: str, query: str, ts: int) -> None:
        """Remember a query.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                _remember(pipe, self._settings, user, "q", query, ts, self._settings.engine.recent_queries)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise redis_trouble("user history in Redis", error) from error

    async def ping(self) -> None:
        """Raises Unavailable when Redis does not answer."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise redis_trouble("Redis", error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.connection_pool.disconnect()


class HistoryWriter:
    """The side of clicks and orders: synchronous, for the consumer's thread."""

    def __init__(self, connections: Connections, settings: ServingSettings) -> None:
        self._settings = settings
        self._redis = redis_client(connections, socket_timeout=5.0, socket_connect_timeout=2.0)

    def write(self, events: list[Click | Order]) -> None:
        """Remember clicked and ordered items; repeating it is harmless. What is returned was ordered all the same.

        Raises:
            Unavailable: Redis does not answer; nothing or a part is written, call again.
        """
        try:
            pipe = self._redis.pipeline(transaction=False)
            engine = self._settings.engine
            for event in events:
                kind, keep = ("i", engine.recent_items) if isinstance(event, Click) else ("o", engine.recent_orders)
                _remember(pipe, self._settings, event.user, kind, event.item, event.ts, keep)
            pipe.execute()
        except (RedisError, OSError) as error:
            raise redis_trouble("user history in Redis", error) from error

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _key(settings: ServingSettings, user: str, kind: str) -> str:
    return f"{settings.history_prefix}:{kind}:{user}"


def _remember(
    pipe: redis.client.Pipeline[Any] | redis.asyncio.client.Pipeline[Any],
    settings: ServingSettings, user: str, kind: str, member: str, ts: int, keep: int,
) -> None:  # fmt: skip
    """Queue the commands (a pipeline of either kind only collects them)."""
    key = _key(settings, user, kind)
    pipe.zadd(key, {member: ts}, gt=True)
    pipe.zremrangebyrank(key, 0, -(keep + SPARE + 1))
    pipe.expire(key, settings.history_ttl_s)
