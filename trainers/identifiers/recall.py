"""How many of the items that people clicked does a query's own identifier find? The measure that methods are compared by.

Letters: N items, M queries, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.sids import pack

IntArray = NDArray[np.int64]


def prefix_recall(
    query_sids_ML: NDArray[np.integer],
    wanted_M: Sequence[IntArray],
    item_sids_NL: NDArray[np.integer],
    level_sizes: Sequence[int],
    budget: int,
) -> NDArray[np.float64]:
    """For each query the share of its wanted items among the first ``budget``, [M].

    Items are ranked by the length of the prefix that they share with the query's identifier. Items that share equally much
    are in random order, and the share is the expectation over that order: so no method gains by a finer rank than its
    prefixes give, and all have the same number of candidates.

    Args:
        wanted_M: rows of the wanted items of each query, at least one each.

    Raises:
        InvalidValue: a query wants nothing, or the budget is below 1.
    """
    if budget < 1 or any(len(wanted) == 0 for wanted in wanted_M):
        raise InvalidValue("budget and wanted items", budget, "at least 1 each", "leave out queries without clicks")
    owner_P = np.repeat(np.arange(len(wanted_M)), [len(wanted) for wanted in wanted_M])
    row_P = np.concatenate(list(wanted_M))
    found_P = np.zeros(len(row_P))
    inside_M = np.full(len(wanted_M), len(item_sids_NL))  # items that share at least the prefix so far
    shares_P = np.ones(len(row_P), dtype=np.bool_)
    for depth in range(1, len(level_sizes) + 2):
        if depth <= len(level_sizes):
            keys_N = pack(item_sids_NL[:, :depth], level_sizes[:depth])
            asked_M = pack(query_sids_ML[:, :depth], level_sizes[:depth])
            ordered_N = np.sort(keys_N)
            deeper_M = np.searchsorted(ordered_N, asked_M, "right") - np.searchsorted(ordered_N, asked_M, "left")
            deeper_P = shares_P & (keys_N[row_P] == asked_M[owner_P])
        else:
            deeper_M, deeper_P = np.zeros_like(inside_M), np.zeros_like(shares_P)
        stops_P = shares_P & ~deeper_P  # shares depth - 1 codes exactly: somewhere from place deeper to inside
        first_P, count_P = deeper_M[owner_P], (inside_M - deeper_M)[owner_P]
        found_P[stops_P] = np.clip((budget - first_P[stops_P]) / count_P[stops_P], 0, 1)
        inside_M, shares_P = deeper_M, deeper_P
    return np.bincount(owner_P, found_P, len(wanted_M)) / np.bincount(owner_P, minlength=len(wanted_M))
