"""Capacity-constrained k-means: one global clustering in which no cluster may grow beyond its share.

Level 3 only. Balancing every level would destroy the hierarchy; one k-means per parent would not fit a shared codebook
(EQUATIONS 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.kmeans import distances, fit_kmeans

IntArray = NDArray[np.int64]


def fit_balanced(
    points_ND: NDArray[np.float32], clusters: int, capacity: int, iterations: int, seed: int
) -> tuple[NDArray[np.float32], IntArray]:
    """Centroids [K, D] and assignment [N] with at most ``capacity`` points a cluster.

    Starts from plain k-means; then assigns under the capacity and moves each centroid to its points' mean in turns.
    """
    centroids_KD = fit_kmeans(points_ND, clusters, iterations, seed)
    assigned = capacity_assign(distances(points_ND, centroids_KD), capacity)
    for _ in range(min(iterations, 5)):  # the start is converged: a few rounds settle what the capacity moved
        sums_KD = np.zeros(centroids_KD.shape, dtype=np.float64)
        np.add.at(sums_KD, assigned, points_ND)
        counts_K = np.bincount(assigned, minlength=len(centroids_KD))
        used = counts_K > 0
        centroids_KD = centroids_KD.copy()
        centroids_KD[used] = (sums_KD[used] / counts_K[used, None]).astype(np.float32)
        again = capacity_assign(distances(points_ND, centroids_KD), capacity)
        if np.array_equal(again, assigned):
            break
        assigned = again
    return centroids_KD, assigned


def even_capacity(points: int, clusters: int, slack: float) -> int:
    """The largest cluster allowed: ``slack`` times an even share, rounded up."""
    return max(math.ceil(points / clusters), math.ceil(slack * points / clusters))


def capacity_assign(distance_NK: NDArray[np.floating], capacity: int) -> IntArray:
    """Assign each point to a cluster that has room: deferred acceptance.

    Every point asks its nearest cluster that has not turned it down; a cluster keeps the ``capacity`` nearest of those
    who ever asked it. The result is stable: no point and cluster both prefer each other. Ties go to the lower index.

    Raises:
        InvalidValue: the clusters together have no room for all points.
    """
    points, clusters = distance_NK.shape
    if clusters * capacity < points:
        raise InvalidValue("capacity of a cluster", capacity, f"at least {points}/{clusters}", "raise the capacity")
    left_NK = np.array(distance_NK, dtype=np.float64)
    assigned = np.full(points, -1, dtype=np.int64)
    asking = np.arange(points)
    while len(asking):
        assigned[asking] = left_NK[asking].argmin(axis=1)
        counts_K = np.bincount(assigned, minlength=clusters)
        full = np.flatnonzero(counts_K > capacity)
        rejected = [np.zeros(0, dtype=np.int64)]
        for cluster in full:
            members = np.flatnonzero(assigned == cluster)
            out = members[np.argsort(distance_NK[members, cluster], kind="stable")[capacity:]]
            left_NK[out, cluster] = np.inf
            rejected.append(out)
        asking = np.sort(np.concatenate(rejected))
        assigned[asking] = -1
        if not len(asking):
            break
        # bincount above must not see -1: those who ask again are assigned first in the next round
    return assigned
