"""Plain k-means through faiss, and the nearest centroids of any number of points, the same whatever the number of threads.

Letters: N points, D width, K centroids, C nearest ones that are kept of a point, B rows of one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from trainers.identifiers.points import blocks

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Finding the libraries takes milliseconds; they are all loaded by the imports above.
_THREADS: Final = ThreadpoolController()
#: Distances held at once: bounds the memory of a block, and never changes a result.
_HELD: Final = 1 << 22
#: Half the distance between 1 and the next float32.
_UNIT: Final = 2.0**-24


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP of faiss and numpy on one thread.

    Threads split matrix products at other borders, which moves the last bit of a distance; k-means then amplifies it
    into other centroids. One thread makes the centroids a function of data and seed alone.
    """
    with _THREADS.limit(limits=1):
        yield


def int_seed(seed: int) -> int:
    """As faiss takes it, a C int: levels and repeated fits count on from the last that it takes."""
    return seed % 2**31


def fit_kmeans(points_ND: FloatArray, clusters: int, iterations: int, seed: int) -> FloatArray:
    """Centroids [min(K, N), D] of seeded k-means; call it inside `one_thread` for centroids that repeat to the bit."""
    points = np.ascontiguousarray(points_ND, dtype=np.float32)
    clusters = min(clusters, len(points))
    kmeans = faiss.Kmeans(
        points.shape[1], clusters, niter=iterations, seed=int_seed(seed), min_points_per_centroid=1, verbose=False
    )
    kmeans.train(points)
    return cast(FloatArray, np.array(kmeans.centroids, dtype=np.float32))


class Centroids:
    """K centroids that are asked for their nearest, with the memory of one block of distances.

    The product that ranks the centroids is in float32 and on any number of threads; wherever rounding could decide, the
    distance itself is computed again in float64, pair by pair. So the answer is that of exact arithmetic, and does not
    depend on threads, on the block's size or on what stands beside a point.
    """

    def __init__(self, centroids_KD: FloatArray) -> None:
        self.centroids_KD = np.ascontiguousarray(centroids_KD, dtype=np.float32)
        squares_K = (self.centroids_KD.astype(np.float64) ** 2).sum(axis=1)
        self._squares_K = squares_K.astype(np.float32)
        self._longest = float(np.sqrt(squares_K.max()))
        self._block = max(1, _HELD // len(self.centroids_KD))

    def nearest(self, points_ND: FloatArray) -> NDArray[np.int32]:
        """The nearest centroid of every point [N]; ties go to the lower index."""
        out_N = np.empty(len(points_ND), dtype=np.int32)
        for at in blocks(len(points_ND), self._block):
            points = points_ND[at]
            score_BK = self._scores(points)
            close_BK = score_BK <= (score_BK.min(axis=1) + self._slack(points))[:, None]
            row_P, code_P = np.nonzero(close_BK)  # by row, then by code
            if len(row_P) > len(points):
                row_P, code_P = self._first(points, row_P, code_P)
            out_N[at] = code_P
        return out_N

    def _first(self, points_BD: FloatArray, row_P: IntArray, code_P: IntArray) -> tuple[IntArray, IntArray]:
        """The nearest of each row's candidates."""
        several_P = np.bincount(row_P)[row_P] > 1
        exact_P = np.zeros(len(row_P))
        exact_P[several_P] = self.exact(points_BD[row_P[several_P]], code_P[several_P])
        order = np.lexsort((code_P, exact_P, row_P))
        first = order[np.flatnonzero(np.diff(row_P[order], prepend=-1))]
        return row_P[first], code_P[first]

    def few(self, points_ND: FloatArray, low: int, high: int) -> tuple[NDArray[np.int32], DoubleArray]:
        """The centroids in the places ``low`` to ``high`` of every point's list, nearest first: codes and squared
        distances [N, C]. Ties go to the lower index."""
        width = min(high, len(self.centroids_KD)) - low
        code_NC = np.empty((len(points_ND), width), dtype=np.int32)
        distance_NC = np.empty((len(points_ND), width))
        for at in blocks(len(points_ND), self._block):
            code_NC[at], distance_NC[at] = self._ranked(points_ND[at], low, low + width, low + width + 4)
        return code_NC, distance_NC

    def exact(self, points_PD: FloatArray, code_P: NDArray[np.integer]) -> DoubleArray:
        """Squared distance [P] of each point to one centroid, in float64; depends on that pair alone."""
        return cast(DoubleArray, ((points_PD.astype(np.float64) - self.centroids_KD[code_P]) ** 2).sum(axis=1))

    def _ranked(self, points_BD: FloatArray, low: int, high: int, wide: int) -> tuple[IntArray, DoubleArray]:
        """As `few`, from the ``wide`` candidates that float32 finds nearest; all of them where it cannot be sure."""
        clusters = len(self.centroids_KD)
        if wide < clusters:
            score_BK = self._scores(points_BD)
            code_BW = np.argpartition(score_BK, wide - 1, axis=1)[:, :wide]
            edge_BW = np.sort(np.take_along_axis(score_BK, code_BW, axis=1), axis=1)
            unsure = np.flatnonzero(edge_BW[:, -1] - edge_BW[:, high - 1] <= self._slack(points_BD))
        else:
            code_BW, unsure = np.tile(np.arange(clusters), (len(points_BD), 1)), np.zeros(0, dtype=np.int64)
        exact_BW = np.stack([self.exact(points_BD, code_B) for code_B in code_BW.T], axis=1)
        order_BC = np.lexsort((code_BW, exact_BW), axis=1)[:, low:high]
        codes_BC = np.take_along_axis(code_BW, order_BC, axis=1)
        distances_BC = np.take_along_axis(exact_BW, order_BC, axis=1)
        if len(unsure):
            codes_BC[unsure], distances_BC[unsure] = self._ranked(points_BD[unsure], low, high, clusters)
        return codes_BC, distances_BC

    def _scores(self, points_BD: FloatArray) -> FloatArray:
        """Squared distances less each point's own square, up to rounding: [B, K]."""
        return cast(FloatArray, self._squares_K - 2 * (points_BD @ self.centroids_KD.T))

    def _slack(self, points_BD: FloatArray) -> FloatArray:
        """How far two scores of a point can be wrong against each other at most, [B] (bound of a dot product's error)."""
        length_B = np.sqrt(np.einsum("bd,bd->b", points_BD, points_BD))
        width = points_BD.shape[1]
        return np.asarray(4 * (width + 4) * _UNIT * self._longest * (length_B + self._longest), dtype=np.float32)
