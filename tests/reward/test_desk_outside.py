"""While a transaction is open SQLite lets nobody else in: the catalogue, which may be large and far, is read before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reward.campaigns.facts import ItemFacts
from reward.desk.desk import Desk
from schemas.connections import Connections
from tests.reward.desk_toys import ANN, AtDesk, Clock, facts, shoes

#: Each over a book with a live campaign and a draft of another.
VERBS: dict[str, Callable[[Desk], Any]] = {
    "draft": lambda desk: desk.draft("new", shoes(), ANN, "why"),
    "activate": lambda desk: desk.activate("next", ANN, "why"),
    "schedule": lambda desk: desk.schedule("next", ANN, "why"),
    "refusals": lambda desk: desk.refusals(desk.drafted("next")),
    "end": lambda desk: desk.end("live", ANN, "why"),
    "set": lambda desk: desk.set({"order": 5}, ANN, "why"),
    "rollback": lambda desk: desk.rollback(1, ANN, "why"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_catalogue_is_read_while_the_database_is_free(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "headrace.db"
    opened = AtDesk(Connections(database=f"sqlite:///{file}"))
    first = opened()
    first.draft("live", shoes(), ANN, "why")
    first.activate("live", ANN, "why")
    first.draft("next", shoes(**{"from": "2026-12-01T00:00"}), ANN, "why")
    asked: list[bool] = []

    def watched() -> ItemFacts:
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:
            if not asked:  # later it is at hand
                other.execute("BEGIN IMMEDIATE")
        asked.append(True)
        return facts()

    VERBS[verb](Desk(opened.engines[0], facts=watched, clock=Clock()))
    assert asked
    opened.close()
