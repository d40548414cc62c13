"""What our identifiers are held against: residual k-means as is customary, with neither balance, OPQ nor keywords.

Letters: N items, M queries, D width, L levels, K one level's size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.identifiers.kmeans import Centroids, fit_kmeans, one_thread
from trainers.identifiers.points import Points, blocks, rows_of
from trainers.identifiers.settings import IdentifierSettings

FloatArray = NDArray[np.float32]
Codes = NDArray[np.int32]


class Coded(NamedTuple):
    """What a method makes of items and queries."""

    item_codes_NL: Codes
    query_codes_ML: Codes
    level_sizes: tuple[int, ...]
    error: float  #: mean squared distance between an item's unit embedding and what its codes stand for


def residual_kmeans(
    items: Points, queries: Points, sizes: tuple[int, ...], settings: IdentifierSettings, seed: int
) -> Coded:
    """Every level is plain k-means of what the levels before left, over items and queries together."""
    left_ND = np.concatenate([rows_of(items, slice(None)), rows_of(queries, slice(None))])
    fitted = sample_rows(len(left_ND), settings, seed)
    codes = []
    for level, size in enumerate(sizes):
        with one_thread():
            centroids_KD = fit_kmeans(left_ND[fitted], size, settings.iterations, seed + level)
        codes.append(Centroids(centroids_KD).nearest(left_ND))
        for at in blocks(len(left_ND)):
            left_ND[at] -= centroids_KD[codes[-1][at]]
    codes_NL, count = np.stack(codes, axis=1), items.shape[0]
    return Coded(codes_NL[:count], codes_NL[count:], sizes, float((left_ND[:count] ** 2).sum(axis=1).mean()))


def sample_rows(count: int, settings: IdentifierSettings, seed: int) -> NDArray[np.int64]:
    """The rows that codebooks are fitted on: all, or as many as the settings allow, drawn by the seed, ascending."""
    if count <= settings.max_training_points:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, settings.max_training_points, replace=False))
