"""Which attributes an item keeps when it is described otherwise: records say title, category and brand, and attributes nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reward.text import stems
from schemas.catalogue import Catalogue


def still_held(before: Catalogue, now: Catalogue, rows: Sequence[int]) -> Catalogue:
    """``now``, whose ``rows`` are described otherwise than ``before``, without the attributes that went with the old words.

    An attribute of which title, category or brand spoke, and speak no more, is the old item's: a brand, a colour, a kind. What
    they never spoke of is left.
    """
    kept = {}
    for row in rows:
        said, says = _words(before, row), _words(now, row)
        attributes = before.attributes[row]
        kept[row] = {
            name: value for name, value in attributes.items() if not (words := set(stems(value))) <= said or words <= says
        }
    if all(kept[row] == now.attributes[row] for row in kept):
        return now
    return replace(now, attributes=tuple(kept.get(row, value) for row, value in enumerate(now.attributes)))


def _words(catalogue: Catalogue, row: int) -> set[str]:
    return {*stems(catalogue.titles[row]), *stems(catalogue.categories[row]), *stems(catalogue.brands[row])}
