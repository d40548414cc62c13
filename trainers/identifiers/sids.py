"""Identifiers as integers: the digits of a number whose bases are the level sizes, so that a prefix is a quotient.

Letters: N identifiers, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The codes of one identifier.
Sid = tuple[int, ...]


def pack(sids_NL: ArrayLike, level_sizes: Sequence[int]) -> NDArray[np.int64]:
    """Each identifier as one integer [N]; integer order is lexicographic order. Works on prefixes and their sizes too."""
    sids = np.asarray(sids_NL)
    keys_N = np.zeros(len(sids), dtype=np.int64)
    for level, size in enumerate(level_sizes):
        keys_N *= size
        keys_N += sids[:, level]
    return keys_N


def pack_one(sid: Sequence[int], level_sizes: Sequence[int]) -> int:
    """`pack` of one identifier."""
    key = 0
    for code, size in zip(sid, level_sizes, strict=True):
        key = key * size + code
    return key


def unpack(key: int, level_sizes: Sequence[int]) -> Sid:
    """The codes of a packed identifier."""
    codes = []
    for size in reversed(level_sizes):
        key, code = divmod(key, size)
        codes.append(code)
    return tuple(reversed(codes))


def below(level_sizes: Sequence[int], depth: int) -> int:
    """How many identifiers there are below one prefix of ``depth`` codes: ``key // below`` is the packed prefix."""
    return math.prod(level_sizes[depth:])
