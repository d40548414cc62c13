"""Numbers for names: 64-bit keys of queries, items and their pairs, the same in every process and on every machine.

Tables of keys are sorted arrays of numbers: they are searched in the file where they lie, and cost no string per row. Two
of n names get one key with a probability of about n^2 / 2^65, 3e-8 for a million; then one has the other's rate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


@lru_cache(maxsize=262_144)
def key(name: str) -> int:
    """The key of a normalised query or of an item."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def keys(names: Sequence[str]) -> Keys:
    """`key` of each name, [N]."""
    return np.fromiter(map(key, names), np.uint64, len(names))


def pair_keys(query_N: Keys, item_N: Keys) -> Keys:
    """Keys [N] of (query, item) from theirs (broadcast): splitmix64 of a mixture, so that high bits are spread too."""
    z_N = np.atleast_1d(query_N) * _GOLDEN + np.atleast_1d(item_N)
    z_N = (z_N ^ (z_N >> np.uint64(30))) * _FIRST
    z_N = (z_N ^ (z_N >> np.uint64(27))) * _SECOND
    return np.asarray(z_N ^ (z_N >> np.uint64(31)), np.uint64)


#: Stands for the query of what an item keeps of pairs that were evicted, and for items that the catalogue lacks. No name
#: has it: normalised queries hold no control characters.
REST: Final = key("\x00rest")
