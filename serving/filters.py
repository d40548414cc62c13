"""A request's filter, in its own words and over a catalogue's columns; `serving.limits` makes a search's limits of it.

Letters: N items, R of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import Catalogue
from schemas.errors import InvalidRequest

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


class Filter(msgspec.Struct, frozen=True):
    """What a request asks beside its list of items. Conditions are joined by and, categories among themselves by or."""

    categories: tuple[str, ...] = ()
    min_price: float | None = None  #: inclusive; an item without a known price (0) passes no bound
    max_price: float | None = None
    in_stock: bool = False
    ban: tuple[str, ...] = ()  #: an operator's: never these
    pin: tuple[str, ...] = ()  #: an operator's: these first, in this order, where they pass everything else

    @property
    def unpinned(self) -> Filter:
        """Without the pins, which keep nothing out."""
        return msgspec.structs.replace(self, pin=())


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
            low, high = asked.min_price or 0.0, math.inf if asked.max_price is None else asked.max_price
            prices_N = catalogue.prices_N.astype(np.float64)
            yield f"costs {low:g} to {high:g}", (prices_N > 0) & (prices_N >= low) & (prices_N <= high)
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


def check_filter(asked: Filter, k: int, most: int) -> None:
    """Hold a filter against its bounds; ``most``: names in one list.

    Raises:
        InvalidRequest: names the parameter, its value, its bound and what to do.
    """
    for name, listed in (("category", asked.categories), ("ban", asked.ban)):
        if len(listed) > most:
            raise InvalidRequest(name, len(listed), f"at most {most} names", "send a shorter filter")
    if "" in asked.categories:
        raise InvalidRequest("category", "", "a category's name", "leave it out for no filter")
    for name, price in (("min_price", asked.min_price), ("max_price", asked.max_price)):
        if price is not None and not 0 <= price < math.inf:
            raise InvalidRequest(name, price, "at least 0 and finite", "leave it out for no bound")
    if asked.min_price is not None and asked.max_price is not None and asked.min_price > asked.max_price:
        raise InvalidRequest("min_price", asked.min_price, f"at most max_price, {asked.max_price:g}", "swap the two")
    if len(asked.pin) > k:
        raise InvalidRequest("pin", len(asked.pin), f"at most k, {k} items", "pin fewer items, or ask for a longer page")
    both = sorted(set(asked.pin) & set(asked.ban))
    if both:
        raise InvalidRequest("pin", both[0], "an item that is not banned", "leave it out of pin or of ban")


def _either(what: str, names: Sequence[str]) -> str:
    return f"{what} " + " or ".join(map(repr, names))
