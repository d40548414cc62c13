"""What the desk asks of the outside: the time, and the catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable

from reward.campaigns.facts import ItemFacts
from schemas.catalogue import Catalogue
from schemas.errors import Unavailable
from schemas.store import Store

Facts = Callable[[], ItemFacts]
Clock = Callable[[], int]


def wall_clock() -> int:
    """Now, in ms."""
    return int(time.time() * 1000)


def no_catalogue() -> ItemFacts:
    """In place of a catalogue, where only the defaults are decided."""
    raise Unavailable("the catalogue", "this desk was opened without one", "open it with the run's store")


def catalogue_of(store: Store) -> Facts:
    """The facts of the run's catalogue, read when they are first asked for and kept."""
    found: list[ItemFacts] = []

    def facts() -> ItemFacts:
        if not found:
            found.append(ItemFacts.of(Catalogue.load(store, attributes=False)))
        return found[0]

    return facts
