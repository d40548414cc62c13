"""A database that does not answer is told in our words to whoever uses its engine, as to whoever opens it; and then goes on."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from console.api.office import Office, sweeping
from reward.desk.desk import Desk
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import Unavailable
from tests.conftest import WHERE_INSTALLED
from tests.postgres import running


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite whose engine waits for other writers for no more than a moment."""
    engine = open_database(Connections(database=f"sqlite:///{tmp_path / 'headrace.db'}"))
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 20"))
    engine.dispose()
    yield engine
    engine.dispose()


def held(engine: Engine) -> sqlite3.Connection:
    """Somebody else who writes for long."""
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_locked_database_is_not_available_and_later_is(hasty: Engine) -> None:
    with closing(held(hasty)), pytest.raises(Unavailable, match=r"database is locked; somebody else .*try again"):
        Desk(hasty).book()
    assert Desk(hasty).book().version == 1


def test_the_consoles_look_for_leftovers_outlives_a_locked_database(hasty: Engine) -> None:
    """It would be the end of its thread, and from then on nobody sent what others left."""
    looks = threading.Semaphore(0)
    office = Office(hasty, Connections(kafka="127.0.0.1:1"), "open")
    event.listen(hasty, "checkin", lambda *_: looks.release())
    with closing(held(hasty)):
        thread, stop = sweeping(office, 0.01)
        assert all(looks.acquire(timeout=10) for _ in range(3)) and thread.is_alive()
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()


@WHERE_INSTALLED
def test_a_connection_that_the_server_dropped_is_replaced_unseen() -> None:
    with running() as url:
        engine, other = (open_database(Connections(database=f"{url}postgres")) for _ in range(2))
        assert Desk(engine).book().version == 1
        with other.connect() as connection:
            others = text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND backend_type = 'client backend'"
            )
            assert connection.scalar(others) >= 1
        assert Desk(engine).book().version == 1
        for one in (engine, other):
            one.dispose()


@WHERE_INSTALLED
def test_a_server_that_went_away_is_not_available() -> None:
    with running() as url:
        engine = open_database(Connections(database=f"{url}postgres"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(Unavailable, match="check HEADRACE_DATABASE, and that it runs") as caught:
            Desk(engine).book()
        assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 10
    engine.dispose()
