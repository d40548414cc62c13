"""A search's filter over a catalogue's columns: one reading for the server, which limits a page by it, and for the gate, which
holds two checkpoints against each other on the same page. Letters: N items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import Catalogue
from schemas.filters import Filter

BoolArray = NDArray[np.bool_]


class Facets:
    """A catalogue's columns as filters ask for them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        names, self._category_N = np.unique(np.array(catalogue.categories, dtype=object), return_inverse=True)
        self._categories = {name: n for n, name in enumerate(names.tolist()) if name}

    def steps(self, asked: Filter) -> Iterator[tuple[str, BoolArray]]:
        """One condition after the other: what is to be said when it leaves nothing, and who passes it [N]."""
        catalogue = self._catalogue
        if asked.categories:
            wanted = [self._categories[name] for name in asked.categories if name in self._categories]
            yield f"is in {_either('category', asked.categories)}", np.isin(self._category_N, wanted)
        if asked.min_price is not None or asked.max_price is not None:
            with np.errstate(over="ignore"):  # beyond float32 is beyond every price
                low, high = (
                    np.float32(asked.min_price or 0),
                    np.float32(math.inf if asked.max_price is None else asked.max_price),
                )
            prices_N = catalogue.prices_N  # float32: bounds are rounded as the prices were, or 19.99 would not cost 19.99
            yield f"costs {_range(asked)}", (prices_N > 0) & (prices_N >= low) & (prices_N <= high)
        if asked.in_stock:
            there_N = catalogue.in_stock_N
            told = "is in stock" if there_N is not None else "is known to be in stock: the catalogue has no column in_stock"
            yield told, np.zeros(len(catalogue), dtype=np.bool_) if there_N is None else there_N
        if asked.ban:
            allowed_N = np.ones(len(catalogue), dtype=np.bool_)
            allowed_N[[catalogue.row[item] for item in asked.ban if item in catalogue.row]] = False
            yield "is left by the ban", allowed_N

    def notes(self, asked: Filter) -> Iterator[str]:
        """What the filter names and the catalogue lacks."""
        unknown = [name for name in asked.categories if name not in self._categories]
        if unknown:
            yield f"the catalogue has no {_either('category', unknown)}"
        strangers = sum(item not in self._catalogue.row for item in asked.ban)
        if strangers:
            yield f"{strangers} of {len(asked.ban)} banned items are not in the catalogue"

    def passing(self, asked: Filter) -> BoolArray:
        """Who passes every condition [N]."""
        passing_N = np.ones(len(self._catalogue), dtype=np.bool_)
        for _, mask_N in self.steps(asked):
            passing_N &= mask_N
        return passing_N


def _range(asked: Filter) -> str:
    low, high = asked.min_price, asked.max_price
    if high is None:
        return f"{low:.15g} or more"
    return f"at most {high:.15g}" if low is None else f"{low:.15g} to {high:.15g}"


def _either(what: str, names: Sequence[str]) -> str:
    return f"{what} " + " or ".join(map(repr, names))
