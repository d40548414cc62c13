"""Capacity-constrained k-means: one global clustering in which no cluster may grow beyond its share.

Level 3 only. Balancing every level would destroy the hierarchy; one k-means per parent would not fit a shared codebook.
Of each point only its few nearest clusters are held, never the distances to all of them.
Letters: N points, D width, K clusters, C choices held of a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.kmeans import Centroids, fit_kmeans

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Choices of a point that are held; whoever is turned down by all of them gets the next ones.
CHOICES: Final = 8

#: (rows [R], low, high) -> the clusters in these places of each row's list, nearest first, and the distances: [R, C].
#: Fewer than asked for where the list ends. Equal questions must get equal answers.
Choices = Callable[[IntArray, int, int], tuple[NDArray[np.integer], DoubleArray]]


def fit_balanced(
    points_ND: FloatArray, clusters: int, capacity: int, iterations: int, seed: int
) -> tuple[FloatArray, IntArray]:
    """Centroids [K, D] and assignment [N] with at most ``capacity`` points a cluster.

    Starts from plain k-means; then assigns under the capacity and moves each centroid to its points' mean in turns.
    """
    centroids_KD = fit_kmeans(points_ND, clusters, iterations, seed)
    assigned = _within(points_ND, centroids_KD, capacity)
    for _ in range(min(iterations, 5)):  # the start is converged: a few rounds settle what the capacity moved
        centroids_KD = _means(points_ND, assigned, centroids_KD)
        again = _within(points_ND, centroids_KD, capacity)
        if np.array_equal(again, assigned):
            break
        assigned = again
    return centroids_KD, assigned


def even_capacity(points: int, clusters: int, slack: float) -> int:
    """The largest cluster allowed: ``slack`` times an even share, rounded up."""
    return max(math.ceil(points / clusters), math.ceil(slack * points / clusters))


def capacity_assign(points: int, clusters: int, capacity: int, choices: Choices) -> IntArray:
    """Assign each of N points to a cluster that has room: deferred acceptance.

    Every point asks its nearest cluster that has not turned it down; a cluster keeps the ``capacity`` nearest of those
    who ever asked it. The result is stable: no point and cluster both prefer each other; and it is the same in whatever
    order points ask. Ties go to the lower index.

    Raises:
        InvalidValue: the clusters together have no room for all points.
    """
    if clusters * capacity < points:
        raise InvalidValue("capacity of a cluster", capacity, f"at least {points}/{clusters}", "raise the capacity")
    asking = np.arange(points)
    code_NC, distance_NC = choices(asking, 0, CHOICES)
    width = code_NC.shape[1]
    place_N = np.zeros(points, dtype=np.int32)  # how many clusters turned this point down
    held: list[IntArray] = [np.zeros(0, dtype=np.int64) for _ in range(clusters)]
    assigned_N = np.empty(points, dtype=np.int64)
    while len(asking):
        assigned_N[asking] = code_NC[asking, place_N[asking] % width]
        order = np.argsort(assigned_N[asking], kind="stable")
        asked = assigned_N[asking[order]]
        rejected = [np.zeros(0, dtype=np.int64)]
        for group in np.split(asking[order], np.flatnonzero(np.diff(asked)) + 1):
            cluster = assigned_N[group[0]]
            both = np.concatenate([held[cluster], group])
            if len(both) > capacity:
                near = np.lexsort((both, distance_NC[both, place_N[both] % width]))
                rejected.append(both[near[capacity:]])
                both = both[near[:capacity]]
            held[cluster] = both
        asking = np.sort(np.concatenate(rejected))
        place_N[asking] += 1
        _extend(asking, place_N, code_NC, distance_NC, choices)
    return assigned_N


def _extend(
    asking: IntArray, place_N: NDArray[np.int32], code_NC: NDArray[np.integer], distance_NC: DoubleArray, choices: Choices
) -> None:
    """The next choices of those who have asked all that were held, in the place of the old ones."""
    width = code_NC.shape[1]
    at_end = asking[place_N[asking] % width == 0]
    for place in np.unique(place_N[at_end]).tolist():
        rows = at_end[place_N[at_end] == place]
        codes, distances = choices(rows, place, place + width)
        code_NC[rows, : codes.shape[1]], distance_NC[rows, : codes.shape[1]] = codes, distances


def _within(points_ND: FloatArray, centroids_KD: FloatArray, capacity: int) -> IntArray:
    centroids = Centroids(centroids_KD)
    return capacity_assign(
        len(points_ND), len(centroids_KD), capacity, lambda rows, low, high: centroids.few(points_ND[rows], low, high)
    )


def _means(points_ND: FloatArray, assigned: IntArray, centroids_KD: FloatArray) -> FloatArray:
    """Each cluster's mean, summed in float64 in the points' order; a cluster without points keeps its centroid."""
    out_KD = centroids_KD.copy()
    order = np.argsort(assigned, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(assigned[order])) + 1):
        out_KD[assigned[members[0]]] = points_ND[members].mean(axis=0, dtype=np.float64)
    return out_KD
