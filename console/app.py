"""The web console: one page, and the API behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from console.api import decisions, history, integrity, preview, tokens
from console.api.access import Viewer
from console.api.described import answer, complete, described
from console.api.office import Office, sweeping
from console.documents import add_documents
from console.settings import LOOPBACK, ConsoleSettings
from console.training import Training, TrainingTail
from reward.desk.outside import Facts, no_catalogue
from reward.preview.service import Previews
from reward.settings import DeskSettings
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Role
from schemas.errors import InvalidRequest
from schemas.failures import handle_failures

#: The page needs nothing from elsewhere, and the browser holds it to that.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"

#: Lines of the audit on the page.
AUDITED = 50


def create_app(
    connections: Connections,
    settings: ConsoleSettings | None = None,
    desk: DeskSettings | None = None,
    facts: Facts = no_catalogue,
    previews: Previews | None = None,
    control_share: float = 0.0,
) -> FastAPI:
    """The application over the run's database and broker; ``app.state.engine`` is the database's. ``desk`` and ``facts``
    as `reward.desk.desk.Desk` takes them; ``previews`` over the run's examples, ``control_share`` as the server has it.
    """
    settings = settings or ConsoleSettings()
    engine = open_database(connections)
    office = Office(engine, connections, settings.access, desk, facts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        thread, stop = sweeping(office, settings.publish_every_s)
        yield
        stop.set()
        thread.join(timeout=30)

    # FastAPI's own pages of the API would load their scripts from elsewhere.
    app = FastAPI(title="Headrace console", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.engine, app.state.office = engine, office
    if settings.access == "open":
        # A page of elsewhere whose name was bound to this address would speak with its own name here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    handle_failures(app)
    _add_page(app, settings)
    for routes in (history.routes, integrity.routes, tokens.routes):
        app.include_router(routes(office))
    app.include_router(decisions.routes(office, previews))
    app.include_router(preview.routes(office, previews, control_share))
    add_documents(app, POLICY)
    _add_training(app, TrainingTail(connections, settings.max_steps), settings)
    complete(app)
    return app


def page_of(settings: ConsoleSettings) -> str:
    """The page as it is sent."""
    page = files("console").joinpath("page.html").read_text("utf-8")
    page = page.replace("__REFRESH_MS__", str(int(settings.refresh_s * 1000))).replace("__LAST__", str(settings.last_steps))
    page = page.replace("__AUDIT__", str(AUDITED))
    return page.replace("__ACCESS__", settings.access)


def _add_page(app: FastAPI, settings: ConsoleSettings) -> None:
    page = page_of(settings)

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"status": "alive"}


def _add_training(app: FastAPI, tail: TrainingTail, settings: ConsoleSettings) -> None:
    @app.get("/api/training", summary="Live training", tags=["training"], **described(Role.VIEWER, Training))
    def training(
        _: Viewer,
        last: Annotated[int | None, Query(description="finished steps")] = None,
    ) -> Response:
        wanted = settings.last_steps if last is None else last
        if not 1 <= wanted <= settings.max_steps:
            raise InvalidRequest("last", wanted, f"1 to {settings.max_steps}", "ask for fewer steps")
        return answer(tail.read(wanted))


def run(
    connections: Connections,
    settings: ConsoleSettings | None = None,
    desk: DeskSettings | None = None,
    facts: Facts = no_catalogue,
    previews: Previews | None = None,
    control_share: float = 0.0,
) -> None:
    """Serve the console until SIGTERM or Ctrl-C."""
    import uvicorn

    settings = settings or ConsoleSettings()
    uvicorn.run(
        create_app(connections, settings, desk, facts, previews, control_share), host=settings.host, port=settings.port,
        log_config=None, log_level="warning", access_log=False,
    )  # fmt: skip
