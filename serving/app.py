"""The search server's web side: parameters in, pages out; every error is JSON with value, bound and remedy."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

import msgspec
import structlog
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import Response
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import SpanKind, get_current_span
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward.settings import RewardSettings
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import InvalidRequest, Unavailable
from schemas.events import Click
from schemas.failures import handle_failures
from schemas.filters import Filter
from schemas.store import Store
from schemas.tracing import span, trace_id
from serving.requests import ID_LIMIT, SearchRequest, check, check_click
from serving.server import SearchServer
from serving.settings import ServingSettings

JSON = "application/json"
#: FastAPI's own spans would name query and user in their URL; the server's one span, `search`, does not.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}

#: Parameters of a search and of a click that count once, and those that may be given several times.
OF_SEARCH = frozenset(
    ("q", "user", "k", "items", "session", "segment", "market", "min_price", "max_price", "in_stock", "ban", "pin")
)
OF_CLICK = frozenset(("user", "item", "request_id"))
OFTEN = frozenset(("category",))
#: Unknown parameters that a note names, and characters of each.
NAMED, SHOWN = 5, 40

log = structlog.get_logger()


def create_app(
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: ServingSettings | None = None,
    reward: RewardSettings | None = None,
) -> FastAPI:
    """The application; its lifespan starts and ends the background threads. ``app.state.server`` is the server."""
    settings, reward = settings or ServingSettings(), reward or RewardSettings()
    server = SearchServer(connections, store, artefacts, settings, reward)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with server:
            yield

    app = FastAPI(title="Headrace search", lifespan=lifespan, telemetry=NO_TELEMETRY)
    app.state.server = server
    handle_failures(app)
    app.add_middleware(Measured, server=server)
    _add_search(app, server, settings)
    _add_click(app, server, settings)
    _add_status(app, server)
    return app


def _add_search(app: FastAPI, server: SearchServer, settings: ServingSettings) -> None:
    @app.get("/search")
    async def search(
        request: Request,
        q: Annotated[str, Query(description="the query")] = "",
        user: Annotated[str, Query(description="id of the user")] = "",
        k: Annotated[int | None, Query(description="items on the page")] = None,
        items: Annotated[str, Query(description="only these items may be shown, comma separated")] = "",
        session: Annotated[str, Query(description="id of the session")] = "",
        segment: Annotated[str, Query(description="the user's segment, for campaigns")] = "",
        market: Annotated[str, Query(description="the user's market, for campaigns")] = "",
        category: Annotated[tuple[str, ...], Query(description="only items of these categories, one a parameter")] = (),
        min_price: Annotated[float | None, Query(description="only items that cost this or more")] = None,
        max_price: Annotated[float | None, Query(description="only items that cost this or less")] = None,
        in_stock: Annotated[bool, Query(description="only items that are in stock")] = False,
        ban: Annotated[str, Query(description="an operator's: never these items, comma separated")] = "",
        pin: Annotated[str, Query(description="an operator's: these items first, comma separated, in this order")] = "",
        x_headrace_time: Annotated[int | None, Header()] = None,
    ) -> Response:
        begin, strangers = time.perf_counter(), _strangers(request, OF_SEARCH)
        asked = SearchRequest(
            request_id=request.state.request_id,
            ts=_time(x_headrace_time, settings),
            user=user,
            query=q,
            k=settings.default_k if k is None else k,
            items=_ids("items", items),
            session=session,
            trace=request.state.trace,
            segment=segment,
            market=market,
            filter=Filter(
                tuple(dict.fromkeys(category)), min_price, max_price, in_stock, _ids("ban", ban), _ids("pin", pin)
            ),
        )
        check(asked, settings)
        answer = await server.search(asked)
        took_ms = round((time.perf_counter() - begin) * 1000, 3)
        said = {"query_truncated": True} if answer.query_truncated else {}
        log.info(
            "search", checkpoint=answer.checkpoint, items=len(answer.items), took_ms=took_ms, **said
        )  # not what was searched for
        told = msgspec.structs.replace(answer, took_ms=took_ms, notes=answer.notes + strangers)
        return Response(msgspec.json.encode(told), media_type=JSON)


def _add_click(app: FastAPI, server: SearchServer, settings: ServingSettings) -> None:
    @app.post("/click", status_code=202)
    async def click(
        request: Request,
        user: Annotated[str, Query(description="id of the user who searched")] = "",
        item: Annotated[str, Query(description="the clicked item")] = "",
        request_id: Annotated[str, Query(description="the page's; without it: the user's latest page that shows it")] = "",
        x_headrace_time: Annotated[int | None, Header()] = None,
    ) -> Response:
        _strangers(request, OF_CLICK)
        clicked = Click(_time(x_headrace_time, settings), user, item, request_id)
        check_click(clicked)
        await server.impressions.clicked(clicked)
        return Response(msgspec.json.encode(clicked), status_code=202, media_type=JSON)


def _add_status(app: FastAPI, server: SearchServer) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str | int]:
        served = server.served
        await asyncio.gather(server.history.ping(), asyncio.to_thread(server.impressions.ping))
        return {
            "status": "ready",
            "checkpoint": served.engine.checkpoint,
            "step": served.step,
            "weights_version": served.ordering.book.version,
            "snapshot_version": served.snapshot_version,
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)


class Measured:
    """Around all of the application: a search is named, traced, timed and counted; anything else is named.

    Plain ASGI: the framework's own kind of middleware passes every body on through a task of its own.
    """

    def __init__(self, app: ASGIApp, server: SearchServer) -> None:
        self._app, self._metrics = app, server.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/search":
            await self._search(scope, receive, send)
        else:
            name = Request(scope).query_params.get("request_id", "")[:ID_LIMIT]
            with structlog.contextvars.bound_contextvars(request_id=name):
                await self._app(scope, receive, send)

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with _named(Request(scope)):
            try:
                await self._app(scope, receive, noted)
            finally:
                self._metrics.seconds.observe(time.perf_counter() - begin)
                self._metrics.requests.labels(str(status)).inc()
                get_current_span().set_attribute("http.response.status_code", status)


@contextmanager
def _named(request: Request) -> Iterator[None]:
    """Inside it a search has its request id and its trace: in ``request.state``, in every line of the log, in a span."""
    name = request.headers.get("x-request-id", uuid.uuid4().hex)
    shown = name[:ID_LIMIT]  # a longer one is refused, and must not fill the log either
    with span("search", request.headers.get("traceparent", ""), SpanKind.SERVER, request_id=shown) as traceparent:
        request.state.request_id, request.state.trace = name, traceparent
        with structlog.contextvars.bound_contextvars(request_id=shown, trace_id=trace_id(traceparent)):
            yield


def _strangers(request: Request, once: frozenset[str]) -> tuple[str, ...]:
    """A note on each parameter that nobody reads: a filter that is misspelt would be no filter, and nobody would know.

    Raises:
        InvalidRequest: one that counts once is there twice, and only one of them would be read.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if len(set(given)) < len(given):
        for name in given:
            if name in once and given.count(name) > 1:
                remedy = "send it once; several ids go into one, with commas between"
                raise InvalidRequest(name, f"{given.count(name)} values", "one value", remedy)
    unknown = [name for name in dict.fromkeys(given) if name not in once and name not in OFTEN]
    return tuple(f"parameter {name[:SHOWN]!r} is not known and was not used" for name in unknown[:NAMED])


def _ids(name: str, listed: str) -> tuple[str, ...]:
    """The ids of a list, each once, without the spaces that people put behind commas."""
    ids = tuple(dict.fromkeys(filter(None, map(str.strip, listed.split(",")))))
    if listed and not ids:
        raise InvalidRequest(name, listed, "ids separated by commas", "leave it out for no filter")
    return ids


def _time(header: int | None, settings: ServingSettings) -> int:
    """Event time of a request, ms."""
    if header is None:
        return int(time.time() * 1000)
    if not settings.simulated_clock:
        raise InvalidRequest(
            "X-Headrace-Time", header, "left out: the server uses its own clock", "set serving.simulated_clock to replay"
        )
    return header


def settle() -> None:
    """What is loaded by now stays: the collector need not look through it again, 0.2 s in which nothing is answered."""
    gc.collect()
    gc.freeze()


def run(
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: ServingSettings | None = None,
    reward: RewardSettings | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are answered first.

    Raises:
        HeadraceError: a background thread failed (the run's artefacts cannot be loaded); the server has stopped.
    """
    import uvicorn

    settings = settings or ServingSettings()
    app = create_app(connections, store, artefacts, settings, reward)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_config=None, log_level="warning", access_log=False,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    web = uvicorn.Server(config)

    def stop() -> None:
        web.should_exit = True

    search: SearchServer = app.state.server
    search.on_failure, search.on_loaded = stop, settle
    web.run()
    if search.failure is not None:
        raise search.failure
    if not web.started:
        raise Unavailable(
            f"{settings.host}:{settings.port}", "the server did not start", "read the log above; is the port taken?"
        )
