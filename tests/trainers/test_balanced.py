"""Capacity-constrained assignment: no cluster beyond its room, stable, and the same as the textbook's deferred acceptance."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers import balanced
from trainers.identifiers.balanced import capacity_assign, even_capacity, fit_balanced
from trainers.identifiers.codebook import fit_codebook
from trainers.identifiers.settings import IdentifierSettings

Matrix = NDArray[np.float64]


def assign(distance_NK: Matrix, capacity: int) -> list[int]:
    """`capacity_assign` over a matrix of distances that is held whole."""

    def choices(rows: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.int64], Matrix]:
        order = np.argsort(distance_NK[rows], axis=1, kind="stable")[:, low:high]
        return order, np.take_along_axis(distance_NK[rows], order, axis=1)

    return capacity_assign(*distance_NK.shape, capacity, choices).tolist()


def one_by_one(distance_NK: Matrix, capacity: int) -> list[int]:
    """The oracle: points ask one at a time, in an order of their own; a full cluster turns its farthest down."""
    points, clusters = distance_NK.shape
    wishes = [deque(sorted(range(clusters), key=lambda k, n=n: (distance_NK[n, k], k))) for n in range(points)]
    held: list[list[int]] = [[] for _ in range(clusters)]
    asking = list(range(points))
    while asking:
        point = asking.pop()
        cluster = wishes[point].popleft()
        held[cluster].append(point)
        if len(held[cluster]) > capacity:
            worst = max(held[cluster], key=lambda n: (distance_NK[n, cluster], n))
            held[cluster].remove(worst)
            asking.append(worst)
    return [next(k for k in range(clusters) if n in held[k]) for n in range(points)]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 3), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_assignment_is_stable_and_the_textbooks(points: int, clusters: int, spare: int, held: int, seed: int) -> None:
    """Whatever number of choices is held of a point, and though many distances are equal: the oracle's assignment, no cluster
    over its capacity, and no point that would find room with a cluster it is nearer to."""
    distance = np.random.default_rng(seed).integers(0, 6, (points, clusters)).astype(float)
    capacity = math.ceil(points / clusters) + spare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balanced, "CHOICES", held)
        assigned = np.array(assign(distance, capacity))
    assert assigned.tolist() == one_by_one(distance, capacity)
    counts = np.bincount(assigned, minlength=clusters)
    assert counts.max() <= capacity
    for point in range(points):
        for cluster in range(clusters):
            if distance[point, cluster] < distance[point, assigned[point]]:
                mine = distance[assigned == cluster, cluster]
                assert counts[cluster] == capacity and mine.max() <= distance[point, cluster]


def test_capacity_by_hand() -> None:
    """Three points want cluster 0 with room for two: the farthest goes to its second choice."""
    assert assign(np.array([[1.0, 9.0], [3.0, 4.0], [2.0, 9.0], [8.0, 1.0]]), 2) == [0, 1, 0, 1]
    assert even_capacity(10, 4, 1.0) == 3 and even_capacity(10, 4, 2.0) == 5
    with pytest.raises(InvalidValue, match="capacity"):
        assign(np.zeros((5, 2)), 2)


def test_balanced_clusters_stay_under_the_capacity() -> None:
    """30 of 40 points in one heap: plain k-means gives them one cluster, the capacity cuts it at 10."""
    random = np.random.default_rng(0)
    heap = random.normal(0, 0.01, (30, 2))
    rest = random.normal(0, 0.01, (10, 2)) + np.repeat([[5, 0], [0, 5], [5, 5]], [4, 3, 3], axis=0)
    points = np.concatenate([heap, rest]).astype(np.float32)
    centroids, assigned = fit_balanced(points, 4, 10, 10, seed=0)
    assert np.bincount(assigned, minlength=4).tolist() == [10, 10, 10, 10]
    assert centroids.shape == (4, 2)


def test_the_capacity_holds_for_points_that_the_fit_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codebook fitted on 300 of 3,000 points, encoded in blocks: each third code at most its share of all, the first two
    the nearest, and the third what the oracle gives from all distances."""
    points = np.random.default_rng(1).normal(size=(3_000, 16)).astype(np.float32)
    book = fit_codebook(points[:300], (8, 8, 12, 8, 8), IdentifierSettings(), seed=0)
    capacity = even_capacity(3_000, 12, 1.1)
    monkeypatch.setattr(balanced, "CHOICES", 3)
    codes = book.encode_within(points, capacity)
    left = book.residual_after(points, codes, 2).astype(np.float64)
    distance = ((left[:, None] - book.residual[2].astype(np.float64)[None]) ** 2).sum(axis=2)
    assert codes[:, 2].tolist() == one_by_one(distance, capacity)
    assert np.bincount(codes[:, 2]).max() <= capacity < np.bincount(book.encode(points)[:, 2]).max()
    assert np.array_equal(codes[:, :2], book.encode(points)[:, :2])
