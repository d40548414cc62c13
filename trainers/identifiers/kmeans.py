"""Plain k-means through faiss, reproducible whatever the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

FloatArray = NDArray[np.float32]

#: Finding the libraries takes milliseconds; they are all loaded by the imports above.
_THREADS: Final = ThreadpoolController()

#: Rows whose distances are computed at once: bounds the memory, and never changes the result.
CHUNK = 4096


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP of faiss and numpy on one thread.

    Threads split matrix products at other borders, which moves the last bit of a distance; k-means then amplifies it
    into other codes. One thread makes the codes a function of data and seed alone.
    """
    with _THREADS.limit(limits=1):
        yield


def fit_kmeans(points_ND: FloatArray, clusters: int, iterations: int, seed: int) -> FloatArray:
    """Centroids [min(K, N), D] of seeded k-means."""
    points = np.ascontiguousarray(points_ND, dtype=np.float32)
    clusters = min(clusters, len(points))
    kmeans = faiss.Kmeans(points.shape[1], clusters, niter=iterations, seed=seed, min_points_per_centroid=1, verbose=False)
    kmeans.train(points)
    return cast(FloatArray, np.array(kmeans.centroids, dtype=np.float32))


def distances(points_ND: FloatArray, centroids_KD: FloatArray) -> NDArray[np.float64]:
    """Squared distances less each point's own square, [N, K].

    In float64, so that neither the batch's size nor the order of summation can swap two centroids in practice.
    """
    centroids = centroids_KD.astype(np.float64)
    squares_K = (centroids**2).sum(axis=1)
    out_NK = np.empty((len(points_ND), len(centroids)), dtype=np.float64)
    for low in range(0, len(points_ND), CHUNK):
        chunk = points_ND[low : low + CHUNK].astype(np.float64)
        out_NK[low : low + CHUNK] = squares_K - 2 * (chunk @ centroids.T)
    return out_NK


def nearest(points_ND: FloatArray, centroids_KD: FloatArray) -> NDArray[np.int32]:
    """The nearest centroid of every point [N]; ties go to the lower index."""
    out_N = np.empty(len(points_ND), dtype=np.int32)
    for low in range(0, len(points_ND), CHUNK):
        out_N[low : low + CHUNK] = distances(points_ND[low : low + CHUNK], centroids_KD).argmin(axis=1)
    return out_N
