"""What the reward tests share: the sentence model, and a small catalogue whose relevance is a rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from reward.encoder import SentenceEncoder
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from tests.reward.desk_toys import AtDesk

TYPES = {
    "shoes": ("sneaker", "boot", "sandal"),
    "kitchen": ("kettle", "toaster", "frying pan"),
    "tools": ("hammer", "drill", "saw"),
}
COLOURS = ("red", "blue", "green", "black")
BRANDS = ("Tessaro", "Velkin", "Ombra")


@dataclass(frozen=True)
class Toy:
    """``tier(query, item)``: 3 the type and colour asked for, 2 the type, 1 the category, 0 neither."""

    catalogue: Catalogue
    emb_ND: NDArray[np.float32]
    queries: tuple[tuple[str, str], ...]  #: (type, colour)

    def tier(self, asked: tuple[str, str], item: str) -> int:
        attributes = self.catalogue.attributes[self.catalogue.row[item]]
        if attributes["entity"] == asked[0]:
            return 3 if attributes["colour"] == asked[1] else 2
        return int(any({attributes["entity"], asked[0]} <= set(kinds) for kinds in TYPES.values()))

    def judgments(self, per_query: int, seed: int = 1) -> list[Judgment]:
        """A sample per query, every tier among them."""
        rng, found = random.Random(seed), []
        for asked in self.queries:
            for _ in range(per_query):
                wanted = rng.randrange(4)
                item = rng.choice([i for i in self.catalogue.items if self.tier(asked, i) == wanted])
                found.append(Judgment(f"{asked[1]} {asked[0]}", item, wanted))
        return found


@pytest.fixture
def at_desk(database: Connections) -> Iterator[AtDesk]:
    """Opens desks over an empty database, in SQLite and in PostgreSQL."""
    made = AtDesk(database)
    yield made
    made.close()


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    """The wheel's model."""
    return SentenceEncoder()


@pytest.fixture(scope="session")
def toy(encoder: SentenceEncoder) -> Toy:
    """180 items: 9 types, 4 colours, 5 of each. Titles also name colours that are not the item's."""
    rng = random.Random(4)
    rows = [
        (category, kind, colour, rng.choice(BRANDS), n)
        for category, kinds in TYPES.items()
        for kind in kinds
        for colour in COLOURS
        for n in range(5)
    ]
    count = len(rows)
    catalogue = Catalogue(
        items=tuple(f"i{n:03d}" for n in range(count)),
        titles=tuple(
            f"{brand} {colour} {kind}, {rng.choice(COLOURS)} trim, fits {rng.choice(COLOURS)} bag {n}"
            for _, kind, colour, brand, n in rows
        ),
        categories=tuple(row[0] for row in rows),
        brands=tuple(row[3] for row in rows),
        prices_N=np.ones(count, np.float32),
        available_from_N=np.zeros(count, np.int64),
        attributes=tuple({"entity": row[1], "colour": row[2], "brand": row[3]} for row in rows),
    )
    queries = tuple((kind, colour) for kinds in TYPES.values() for kind in kinds for colour in COLOURS)
    return Toy(catalogue, encoder.encode(catalogue.titles), queries)
