"""The level between item and whole: items whose identifiers begin with the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.keys import Keys, keys


class Prefixes(NamedTuple):
    """Of the I items of a catalogue: ``item_I`` their keys, sorted, ``prefix_I`` the number of each one's prefix.

    ``version`` names the identifiers; items of no catalogue have the number ``size``.
    """

    version: str
    item_I: Keys
    prefix_I: NDArray[np.int64]
    size: int

    @classmethod
    def of(cls, version: str, items: Sequence[str], sids_NL: NDArray[np.int32], levels: int) -> Prefixes:
        """Prefixes of the first ``levels`` codes of each item's identifier."""
        _, prefix_N = np.unique(sids_NL[:, :levels], axis=0, return_inverse=True)
        item_N = keys(items)
        order = np.argsort(item_N, kind="stable")
        prefix_I = prefix_N.reshape(-1).astype(np.int64)[order]
        return cls(version, item_N[order], prefix_I, int(prefix_I.max(initial=-1)) + 1)

    def find(self, item_N: Keys) -> NDArray[np.int64]:
        """Number of each item's prefix."""
        place_N = np.minimum(np.searchsorted(self.item_I, item_N), max(len(self.item_I) - 1, 0))
        if not len(self.item_I):
            return np.full(len(item_N), self.size, np.int64)
        return np.where(self.item_I[place_N] == item_N, self.prefix_I[place_N], self.size)
