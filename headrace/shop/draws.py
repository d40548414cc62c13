"""Random numbers that belong to things, not to moments: counter-based, so that two arms meet the same draws."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

#: Uniform numbers per (request, item); `headrace.shop.behaviour` says which is for what.
WIDTH = 8


def stream(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for every (seed, names)."""
    return np.random.Generator(np.random.Philox(key=_key(seed, ":".join(map(str, names)))))


def item_draws(seed: int, request_id: str, rows_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape [N, `WIDTH`]; each row is a function of (seed, request, item row) alone."""
    key = _key(seed, request_id)
    raw_NW = np.empty((len(rows_N), WIDTH), dtype=np.uint64)
    for n, row in enumerate(rows_N.tolist()):
        raw_NW[n] = np.random.Philox(key=key, counter=np.array([0, row, 1, 0], dtype=np.uint64)).random_raw(WIDTH)
    return (raw_NW >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _key(seed: int, name: str) -> NDArray[np.uint64]:
    word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.array([seed, word], dtype=np.uint64)
