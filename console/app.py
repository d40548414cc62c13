"""The web console: one page and the small API behind it. No login: keep it inside, or put a proxy with one before it."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from console.documents import add_documents
from console.settings import ConsoleSettings
from console.training import TrainingTail
from reward.weights import WeightStore, publish_outbox
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import InvalidRequest, Unavailable
from schemas.failures import handle_failures
from schemas.weights import RewardWeights

#: The page needs nothing from elsewhere, and the browser holds it to that.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    author: str = Field(min_length=1, max_length=100)
    reason: str = Field(min_length=1, max_length=500)
    expected_version: int | None = Field(None, ge=1)


class Change(_Decision):
    """New values of some weights; ``expected_version`` is the version the operator was looking at."""

    changes: dict[str, float] = Field(min_length=1)


class Rollback(_Decision):
    """Make an earlier version's values the active ones, as a new version."""

    version: int = Field(ge=1)


def create_app(connections: Connections, settings: ConsoleSettings | None = None) -> FastAPI:
    """The application over the run's database and broker; ``app.state.engine`` is the database's."""
    settings = settings or ConsoleSettings()
    app = FastAPI(title="Headrace console")
    app.state.engine = open_database(connections)
    handle_failures(app)
    _add_page(app, settings)
    _add_weights(app, app.state.engine, connections)
    add_documents(app, POLICY)
    _add_training(app, TrainingTail(connections, settings.max_steps), settings)
    return app


def _add_page(app: FastAPI, settings: ConsoleSettings) -> None:
    page = files("console").joinpath("page.html").read_text("utf-8")
    page = page.replace("__REFRESH_MS__", str(int(settings.refresh_s * 1000))).replace("__LAST__", str(settings.last_steps))

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "alive"}


def _add_weights(app: FastAPI, engine: Engine, connections: Connections) -> None:
    weights = WeightStore(engine)

    def published(saved: RewardWeights) -> dict[str, Any]:
        """What was saved is saved, whether or not the broker has it yet; the answer says which."""
        try:
            publish_outbox(engine, connections)
        except Unavailable as error:
            return {"weights": msgspec.to_builtins(saved), "published": False, "note": f"saved, not yet published: {error}"}
        return {"weights": msgspec.to_builtins(saved), "published": True, "note": ""}

    @app.get("/api/weights")
    def active() -> Any:
        return msgspec.to_builtins(weights.active())

    @app.get("/api/weights/history")
    def history() -> Any:
        return msgspec.to_builtins(sorted(weights.history(), key=lambda w: w.version, reverse=True))

    @app.post("/api/weights")
    def change(asked: Change) -> dict[str, Any]:
        return published(weights.set(asked.changes, asked.author, asked.reason, asked.expected_version))

    @app.post("/api/weights/rollback")
    def rollback(asked: Rollback) -> dict[str, Any]:
        return published(weights.rollback(asked.version, asked.author, asked.reason, asked.expected_version))


def _add_training(app: FastAPI, tail: TrainingTail, settings: ConsoleSettings) -> None:
    @app.get("/api/training")
    def training(last: Annotated[int | None, Query(description="finished steps")] = None) -> dict[str, Any]:
        wanted = settings.last_steps if last is None else last
        if not 1 <= wanted <= settings.max_steps:
            raise InvalidRequest("last", wanted, f"1 to {settings.max_steps}", "ask for fewer steps")
        return tail.read(wanted)


def run(connections: Connections, settings: ConsoleSettings | None = None) -> None:
    """Serve the console until SIGTERM or Ctrl-C."""
    import uvicorn

    settings = settings or ConsoleSettings()
    uvicorn.run(
        create_app(connections, settings), host=settings.host, port=settings.port, log_config=None, log_level="warning",
        access_log=False,
    )  # fmt: skip
