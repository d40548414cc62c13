"""A database of an earlier release keeps its meaning, on both databases, there and back."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, text

from reward.desk.desk import Desk
from schemas.clients import database_engine
from schemas.connections import Connections
from schemas.database import MIGRATIONS, open_database
from schemas.decisions import Actor, Role
from schemas.tables import Base
from schemas.weights import RewardWeights


def migrate(engine: Engine, to: str, back: bool = False) -> None:
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, to)


def test_rows_of_four_weights_become_books(database: Connections) -> None:
    """Two versions of the first release; afterwards they read the same, a third follows, and the way back keeps them."""
    old = database_engine(database)
    migrate(old, "0001")
    rows = [
        {"version": 2, "relevance": 1.0, "ctr": 1.5, "click": 3.0, "order_weight": 8.0, "created_ms": 5, "author": "ann", "reason": "spring"},
        {"version": 3, "relevance": 2.0, "ctr": 1.0, "click": 3.0, "order_weight": 4.0, "created_ms": 9, "author": "bob", "reason": "é"},
    ]  # fmt: skip
    names = ", ".join(rows[0])
    with old.begin() as connection:
        values = ", ".join(f":{name}" for name in rows[0])
        connection.execute(text(f"INSERT INTO reward_weights ({names}) VALUES ({values})"), rows)
    engine = open_database(database)
    desk = Desk(engine)
    assert desk.books() == [
        RewardWeights(),
        RewardWeights(2, 1.0, 1.5, 3.0, 8.0, 5, "ann", "spring"),
        RewardWeights(3, 2.0, 1.0, 3.0, 4.0, 9, "bob", "é"),
    ]
    assert desk.set({"click": 2}, Actor("eve", Role.EDITOR), "on").version == 4
    engine.dispose()
    migrate(old, "0001", back=True)
    with old.begin() as connection:
        kept = connection.execute(text(f"SELECT {names} FROM reward_weights ORDER BY version")).mappings().all()
    assert [dict(row) for row in kept[:2]] == rows and (kept[2]["version"], kept[2]["click"]) == (4, 2.0)
    old.dispose()


def test_the_migrations_make_the_tables_of_the_code(database: Connections) -> None:
    """Every table and column of `schemas.tables`, and no other."""
    engine = open_database(database)
    found = {
        table: {column["name"] for column in inspect(engine).get_columns(table)}
        for table in inspect(engine).get_table_names()
        if table != "alembic_version"
    }
    assert found == {name: {column.name for column in table.columns} for name, table in Base.metadata.tables.items()}
    engine.dispose()
