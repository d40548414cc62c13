"""The nearest centroids: those of exact arithmetic, whatever stands beside a point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainers.identifiers import kmeans
from trainers.identifiers.kmeans import Centroids
from trainers.identifiers.points import Picked, Stacked, blocks, rows_of


def exact(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    """The oracle: every squared distance in float64, one difference at a time."""
    return ((points.astype(np.float64)[:, None] - centroids.astype(np.float64)[None]) ** 2).sum(axis=2)


def near_ties(seed: int, count: int, clusters: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centroids in pairs that differ by some units in the last place, some of them equal, far from the origin."""
    random = np.random.default_rng(seed)
    centroids = random.normal(3, 1, (clusters, 24)).astype(np.float32)
    half = clusters // 2
    centroids[half : 2 * half] = np.nextafter(centroids[:half], np.float32(9), dtype=np.float32)
    centroids[-1] = centroids[0]
    return random.normal(3, 1, (count, 24)).astype(np.float32), centroids


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 40), st.integers(1, 12), st.integers(0, 4))
def test_nearest_and_few_are_exact(seed: int, count: int, clusters: int, high: int, low: int) -> None:
    """Where float32 cannot tell centroids apart, the answer is still float64's, ties to the lower index."""
    points, centroids = near_ties(seed, count, clusters)
    asked, distance = Centroids(centroids), exact(points, centroids)
    order = np.argsort(distance, axis=1, kind="stable")
    assert asked.nearest(points).tolist() == order[:, 0].tolist()
    low, high = min(low, clusters - 1), max(min(high, clusters), min(low, clusters - 1) + 1)
    codes, found = asked.few(points, low, high)
    assert codes.tolist() == order[:, low:high].tolist()
    assert np.array_equal(found, np.take_along_axis(distance, order[:, low:high], axis=1))


def test_a_points_code_does_not_depend_on_its_block() -> None:
    """One row at a time, and all at once: equal codes."""
    points, centroids = near_ties(5, 300, 64)
    asked = Centroids(centroids)
    assert asked.nearest(points).tolist() == [int(asked.nearest(point[None])[0]) for point in points]


def test_a_block_of_distances_is_all_that_is_held() -> None:
    """Blocks shrink as codebooks grow: 4 Mi distances at most."""
    many = Centroids(np.zeros((4096, 2), np.float32))
    assert many._block * 4096 <= kmeans._HELD


def test_stacked_and_picked_points_are_the_rows_they_stand_for() -> None:
    """Slices and index arrays over two arrays, one behind the other, in any order."""
    first, second = np.arange(8.0).reshape(4, 2).astype(np.float16), np.arange(6.0).reshape(3, 2)
    both, whole = Stacked(first, second), np.concatenate([first, second]).astype(np.float32)
    assert both.shape == (7, 2)
    for rows in (slice(0, 3), slice(2, 6), slice(None), np.array([6, 0, 4]), np.array([1])):
        assert np.array_equal(rows_of(both, rows), whole[rows])
    picked = Picked(both, np.array([5, 1, 3]))
    assert picked.shape == (3, 2) and np.array_equal(rows_of(picked, slice(1, 3)), whole[[1, 3]])


def test_a_mapped_file_is_read_and_its_pages_given_back(tmp_path: Path) -> None:
    """The rows are the file's, in any order, again and again, and a whole pass leaves little of the file in memory."""
    rows = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float16)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float16, "r", shape=rows.shape)
    for _ in range(2):
        for at in blocks(len(rows), 4_000):
            assert np.array_equal(rows_of(mapped, at), rows[at].astype(np.float32))
    resident = [line for line in Path("/proc/self/smaps").read_text().split("VmFlags") if str(tmp_path / "rows") in line]
    kib = [int(line.split()[1]) for part in resident for line in part.splitlines() if line.startswith("Rss:")]
    assert kib and sum(kib) < 1_000  # of 10,000
    assert np.array_equal(rows_of(mapped, np.array([9, 3])), rows[[9, 3]].astype(np.float32))
    whole = np.memmap(tmp_path / "rows", np.float32, "r", shape=(20_000, 128))
    assert rows_of(whole, slice(0, 5_000)).tobytes() == rows[:5_000].tobytes()
