"""A shopper's side of the search server: ask, and ask again under a new request id while the server is away."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import msgspec

from headrace.shop.settings import DeliverySettings
from headrace.world import Request
from schemas.errors import Unavailable

#: Pause between two attempts (wall s).
PAUSE_S = 0.25


@dataclass(frozen=True)
class Search:
    """An answered search. ``request_id`` is the answered attempt's; ``wall_s`` the wall time of the answer."""

    request: Request
    request_id: str
    shown: tuple[str, ...]
    checkpoint: str
    weights_version: int
    snapshot_version: int
    attempts: int
    wall_s: float
    latency_s: float


class _Item(msgspec.Struct):
    item: str


class _Answer(msgspec.Struct):
    items: list[_Item]
    checkpoint: str = ""
    weights_version: int = 0
    snapshot_version: int = 0


class SearchClient:
    """An asynchronous context manager around one connection pool."""

    def __init__(self, server: str, settings: DeliverySettings) -> None:
        self._settings = settings
        limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        self._http = httpx.AsyncClient(base_url=server, timeout=settings.request_timeout_s, limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def search(self, request: Request) -> Search:
        """Answer of the server, after as many attempts as it takes.

        Raises:
            Unavailable: no answer within ``server_patience_s``, or one that says the request is wrong.
        """
        begin, attempt, refusal = time.monotonic(), 0, ""
        while time.monotonic() - begin < self._settings.server_patience_s:
            attempt += 1
            request_id = request.request_id if attempt == 1 else f"{request.request_id}.{attempt}"
            sent = time.monotonic()
            try:
                response = await self._http.get(
                    "/search", params=self._params(request), headers=_headers(request, request_id)
                )
            except httpx.TransportError as error:
                refusal = f"{type(error).__name__} {error}"
            else:
                if response.status_code == 200:
                    return _read(request, request_id, response, attempt, time.monotonic() - sent)
                refusal = f"HTTP {response.status_code}: {response.text[:200]}"
                if response.status_code < 500 and response.status_code != 429:
                    raise Unavailable(f"search server {self._http.base_url}", refusal, "correct the request")
            await asyncio.sleep(PAUSE_S)
        waited = f"no answer for {self._settings.server_patience_s:.0f} s, last: {refusal}"
        raise Unavailable(f"search server {self._http.base_url}", waited, "read the server's log")

    def _params(self, request: Request) -> dict[str, str]:
        params = {"q": request.query, "user": request.user, "k": str(self._settings.page)}
        about = {"items": ",".join(request.candidates), "segment": request.segment, "market": request.market}
        return params | {name: value for name, value in about.items() if value}


def _headers(request: Request, request_id: str) -> dict[str, str]:
    return {"X-Request-Id": request_id, "X-Headrace-Time": str(request.ts)}


def _read(request: Request, request_id: str, response: httpx.Response, attempts: int, latency_s: float) -> Search:
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except msgspec.DecodeError as error:
        raise Unavailable("search server", f"its answer cannot be read: {error}", "use a server of this version") from error
    return Search(
        request=request,
        request_id=request_id,
        shown=tuple(entry.item for entry in answer.items),
        checkpoint=answer.checkpoint,
        weights_version=answer.weights_version,
        snapshot_version=answer.snapshot_version,
        attempts=attempts,
        wall_s=time.time(),
        latency_s=latency_s,
    )
