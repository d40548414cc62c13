"""A known relevance: what a person, or the simulated shop's truth, said about a query and an item."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Number of relevance tiers: 3 excellent, 2 related, 1 mismatch, 0 irrelevant.
TIERS: Final = 4


class Judgment(NamedTuple):
    """``query`` as typed (compared in its normalised form), ``item`` an item id, ``tier`` 0 to 3."""

    query: str
    item: str
    tier: int
