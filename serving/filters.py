"""The bounds of a request's filter; `reward.facets` reads it over a catalogue, `serving.limits` makes a search's limits of it."""

from __future__ import annotations

import math

from schemas.errors import InvalidRequest
from schemas.filters import Filter


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
