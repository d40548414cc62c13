"""Open the database, brought to the newest schema by Alembic. SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, OperationalError

from schemas.errors import InvalidSetting, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
#: Advisory lock of PostgreSQL while migrating: two processes that start at once must not both create a table.
LOCK = 7_209_113


def open_database(url: str) -> Engine:
    """An engine on the database at ``url``, migrated to head.

    Raises:
        InvalidSetting: not a SQLAlchemy URL of a known database.
        Unavailable: it does not answer.
    """
    try:
        engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        bound = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        raise InvalidSetting("HEADRACE_DATABASE", url, bound, f"correct it ({error})") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise Unavailable(f"database {where}", str(error.orig), "check HEADRACE_DATABASE, and that it runs") from error
    return engine


def _sqlite_pragmas(connection: object, _: object) -> None:
    """Wait for other writers; and transactions begin with a lock, by us: the driver would begin them after the first read."""
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
