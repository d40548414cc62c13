"""What is said of an item beside its identifier, and what a later word makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from schemas.events import ItemAdded


def rounded(price: float) -> float:
    """As a catalogue keeps it, in float32."""
    return float(np.float32(price))


def shortest(price: float) -> float:
    """The shortest number that `rounded` takes for the same: 19.99, where float32 has 19.98999977."""
    return float(str(np.float32(price))) + 0.0  # never -0.0


class Description(NamedTuple):
    """An item's title and facts. A fact that is empty, or a price of 0, says nothing."""

    title: str
    category: str = ""
    brand: str = ""
    price: float = 0.0  #: in the shop's currency, `rounded`

    @classmethod
    def of(cls, record: ItemAdded) -> Description:
        """What a record says."""
        return cls(record.title, record.category, record.brand, rounded(record.price))

    def then(self, later: Description) -> Description:
        """With the title of ``later``, and what else it says."""
        if later.category and later.brand and later.price:
            return later
        return Description(
            later.title, later.category or self.category, later.brand or self.brand, later.price or self.price
        )


def said_by(records: Iterable[ItemAdded]) -> Iterator[tuple[str, Description]]:
    """Item and description of each record that has an identifier: one without describes nothing."""
    return ((record.item, Description.of(record)) for record in records if record.sid)
