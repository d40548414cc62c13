"""A search's filter in its own words: what limits the page, and what an operator puts on it."""

from __future__ import annotations

import msgspec


class Filter(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a search asks beside its list of items. Conditions are joined by and, categories among themselves by or."""

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
