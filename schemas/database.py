"""Open the database, brought to the newest schema by Alembic. SQLite and PostgreSQL."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError

from schemas.admission import database_trouble
from schemas.clients import database_engine
from schemas.connections import Connections
from schemas.errors import Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
#: Advisory lock of PostgreSQL while migrating: two processes that start at once must not both create a table.
LOCK = 7_209_113


def open_database(connections: Connections) -> Engine:
    """An engine on the database, migrated to head.

    Raises:
        InvalidSetting: not a SQLAlchemy URL of a known database.
        Unavailable: it does not answer; Refused: it does not let us in. Whoever uses the engine later is told so too.
    """
    engine = database_engine(connections, pool_pre_ping=True)
    event.listen(engine, "handle_error", partial(_told, connections))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return engine


def _told(connections: Connections, context: ExceptionContext) -> Unavailable | None:
    """What the driver raises when the database does not answer becomes an error of Headrace. Not when a connection of the pool
    is tried out: one that is gone is replaced there."""
    if not context.is_pre_ping and isinstance(context.sqlalchemy_exception, (OperationalError, InterfaceError)):
        return database_trouble(connections, str(context.original_exception))
    return None


def _sqlite_pragmas(connection: object, _: object) -> None:
    """Wait for other writers; and transactions begin with a lock, by us: the driver would begin them after the first read."""
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
