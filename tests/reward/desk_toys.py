"""A small shop for the desk: eight items, and a clock that stands until it is put forward."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Engine

from reward.campaigns.facts import ItemFacts
from reward.desk.desk import Desk
from reward.desk.wishes import Wish, wish
from reward.settings import DeskSettings
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role

#: 2026-11-20 12:00 UTC
NOW_MS = 1_795_176_000_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

ANN, BOB = Actor("ann", Role.EDITOR), Actor("bob", Role.EDITOR)
EVE, DAN = Actor("eve", Role.APPROVER), Actor("dan", Role.APPROVER)
VIC = Actor("vic", Role.VIEWER)

#: (category, brand) of each item.
ITEMS = (
    ("shoes", "Tessaro"), ("shoes", "Tessaro"), ("shoes", "Velkin"), ("kitchen", "Velkin"),
    ("kitchen", "Ombra"), ("tools", "Ombra"), ("tools", "Ombra"), ("tools", "Tessaro"),
)  # fmt: skip


def catalogue(margins: bool = True) -> Catalogue:
    """The items; the n-th has a margin of n / 10."""
    count = len(ITEMS)
    return Catalogue(
        items=tuple(f"i{n}" for n in range(count)),
        titles=tuple(f"{brand} {category}" for category, brand in ITEMS),
        categories=tuple(category for category, _ in ITEMS),
        brands=tuple(brand for _, brand in ITEMS),
        prices_N=np.ones(count, np.float32),
        available_from_N=np.zeros(count, np.int64),
        attributes=tuple({} for _ in ITEMS),
        margins_N=np.arange(count, dtype=np.float32) / 10 if margins else None,
    )


def facts(margins: bool = True) -> ItemFacts:
    """What campaigns ask of the items."""
    return ItemFacts.of(catalogue(margins))


class Clock:
    """Wall time that stands."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class AtDesk:
    """Opens desks over one database, each with connections of its own, and closes them at the end."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.engines: list[Engine] = []

    def __call__(self, clock: Clock | None = None, margins: bool = True, **settings: Any) -> Desk:
        self.engines.append(open_database(self.connections))
        return Desk(self.engines[-1], DeskSettings(**settings), lambda: facts(margins), clock or Clock())

    def close(self) -> None:
        """Close every connection."""
        for engine in self.engines:
            engine.dispose()


def shoes(**fields: Any) -> Wish:
    """Shoes whose orders count twice as much, and ``fields`` besides."""
    return wish({"scope": {"categories": ["shoes"]}, "order": 8} | fields)
