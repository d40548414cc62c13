"""The codebook: three levels of residual centroids, then a rotation and two sub-quantisers (RQ-OPQ).

Letters: N points, D embedding width, K one level's size, L = 5.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import faiss
import numpy as np
from numpy.typing import NDArray

from schemas.arrays import read_arrays
from schemas.errors import InvalidValue
from trainers.identifiers.balanced import capacity_assign, even_capacity, fit_balanced
from trainers.identifiers.kmeans import Centroids, fit_kmeans, int_seed, one_thread
from trainers.identifiers.points import Points, Rows, blocks, rows_of
from trainers.identifiers.settings import RESIDUAL_LEVELS, IdentifierSettings

FloatArray = NDArray[np.float32]
Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Codebook:
    """Immutable; `version` names its content. The two sub-quantisers see the halves of the rotated residual."""

    residual: tuple[FloatArray, ...]  #: per residual level [K, D]
    rotation_DD: FloatArray  #: orthonormal rows; the residual is multiplied by its transpose
    fine: tuple[FloatArray, ...]  #: per sub-quantiser [K, D / 2]

    @cached_property
    def level_sizes(self) -> tuple[int, ...]:
        """K of each of the L levels."""
        return tuple(len(centroids) for centroids in (*self.residual, *self.fine))

    @property
    def dim(self) -> int:
        """D."""
        return len(self.rotation_DD)

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of the content's sha256."""
        digest = hashlib.sha256()
        for array in (*self.residual, self.rotation_DD, *self.fine):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def residual_centroids(self) -> tuple[Centroids, ...]:
        """The residual levels, ready to be asked."""
        return tuple(Centroids(level_KD) for level_KD in self.residual)

    @cached_property
    def fine_centroids(self) -> tuple[Centroids, ...]:
        """The sub-quantisers, ready to be asked with residuals that are not rotated: their centroids are turned back instead.

        The half of the residual that a sub-quantiser does not see adds the same to all its distances.
        """
        return tuple(Centroids(self.centroids(RESIDUAL_LEVELS + half)) for half in range(len(self.fine)))

    def encode(self, emb_ND: Points) -> Codes:
        """The nearest codes [N, L], level after level. One row's codes do not depend on the other rows."""
        self._check(emb_ND.shape)
        out_NL = np.empty((emb_ND.shape[0], len(self.level_sizes)), dtype=np.int32)
        for at in blocks(len(out_NL)):
            left_BD = self._rows(emb_ND, at)
            for level, centroids in enumerate(self.residual_centroids):
                out_NL[at, level] = centroids.nearest(left_BD)
                left_BD = left_BD - self.residual[level][out_NL[at, level]]
            out_NL[at, RESIDUAL_LEVELS:] = self.encode_fine(left_BD)
        return out_NL

    def encode_within(self, emb_ND: Points, capacity: int) -> Codes:
        """As `encode`, but no more than ``capacity`` of these points get one code of level 3; the levels below follow.

        Held are the codes and, of each point, a few choices of level 3; the points are read twice.

        Raises:
            InvalidValue: the codes of level 3 together have no room for N points.
        """
        self._check(emb_ND.shape)
        last, centroids = RESIDUAL_LEVELS - 1, self.residual_centroids[-1]
        out_NL = np.empty((emb_ND.shape[0], len(self.level_sizes)), dtype=np.int32)

        def choices(rows: NDArray[np.int64], low: int, high: int) -> tuple[Codes, NDArray[np.float64]]:
            width = min(high, self.level_sizes[last]) - low
            code_RC, distance_RC = np.empty((len(rows), width), np.int32), np.empty((len(rows), width))
            for at in blocks(len(rows)):
                left_BD = self._rows(emb_ND, rows[at])
                for level in range(last):
                    if low == 0:
                        out_NL[rows[at], level] = self.residual_centroids[level].nearest(left_BD)
                    left_BD = left_BD - self.residual[level][out_NL[rows[at], level]]
                code_RC[at], distance_RC[at] = centroids.few(left_BD, low, low + width)
            return code_RC, distance_RC

        out_NL[:, last] = capacity_assign(len(out_NL), self.level_sizes[last], capacity, choices)
        for at in blocks(len(out_NL)):
            left_BD = self.residual_after(rows_of(emb_ND, at), out_NL[at], RESIDUAL_LEVELS)
            out_NL[at, RESIDUAL_LEVELS:] = self.encode_fine(left_BD)
        return out_NL

    def encode_fine(self, residual_ND: FloatArray) -> Codes:
        """The nearest codes [N, 2] of the last residual in the two sub-quantisers."""
        return np.stack([half.nearest(residual_ND) for half in self.fine_centroids], axis=1)

    def residual_after(self, emb_ND: FloatArray, codes_NL: NDArray[np.integer], level: int) -> FloatArray:
        """What is left of N embeddings after the first ``level`` residual codes, [N, D]."""
        self._check(emb_ND.shape)
        left_ND = emb_ND
        for index in range(level):
            left_ND = left_ND - self.residual[index][codes_NL[:, index]]
        return left_ND

    def decode(self, codes_NL: NDArray[np.integer]) -> FloatArray:
        """The embeddings [N, D] that the codes stand for: all levels' centroids added up."""
        coarse_ND = sum(centroids[codes_NL[:, level]] for level, centroids in enumerate(self.residual))
        fine = [centroids[codes_NL[:, RESIDUAL_LEVELS + half]] for half, centroids in enumerate(self.fine)]
        return cast(FloatArray, coarse_ND + np.concatenate(fine, axis=1) @ self.rotation_DD)

    def error(self, emb_ND: Points, codes_NL: Codes) -> FloatArray:
        """Squared distance [N] of every point to what its codes stand for."""
        out_N = np.empty(len(codes_NL), dtype=np.float32)
        for at in blocks(len(codes_NL)):
            out_N[at] = ((rows_of(emb_ND, at) - self.decode(codes_NL[at])) ** 2).sum(axis=1)
        return out_N

    def centroids(self, level: int) -> FloatArray:
        """Centroids of a level in embedding space, [K, D]: a start for the tokens' embeddings of a model."""
        if level < RESIDUAL_LEVELS:
            return self.residual[level]
        width = self.dim // len(self.fine)
        half = level - RESIDUAL_LEVELS
        turn_DD = self.rotation_DD[half * width : (half + 1) * width].astype(np.float64)
        return (self.fine[half].astype(np.float64) @ turn_DD).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As an npz file."""
        buffer = io.BytesIO()
        arrays = {f"residual_{level}": array for level, array in enumerate(self.residual)}
        arrays |= {f"fine_{half}": array for half, array in enumerate(self.fine)}
        np.savez(buffer, allow_pickle=False, rotation=self.rotation_DD, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, path: str = "codebook") -> Codebook:
        """Read what `to_bytes` wrote.

        Raises:
            Corrupt: it does not have that form.
        """
        levels = [f"residual_{level}" for level in range(RESIDUAL_LEVELS)]
        arrays = read_arrays(data, path, (*levels, "rotation"), "rebuild the identifiers")
        fine = tuple(arrays[name] for name in sorted(arrays) if name.startswith("fine_"))
        return cls(tuple(arrays[name] for name in levels), arrays["rotation"], fine)

    @staticmethod
    def _rows(emb_ND: Points, at: Rows) -> FloatArray:
        """Rows to encode: NaN would be near to no centroid."""
        rows_BD = rows_of(emb_ND, at)
        if not np.isfinite(rows_BD).all():
            value = rows_BD[~np.isfinite(rows_BD)][0]
            raise InvalidValue("value in an embedding", value, "finite", "check the encoder")
        return rows_BD

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or shape[1] != self.dim:
            raise InvalidValue("embeddings' shape", shape, f"[N, {self.dim}]", "use the encoder of the codebook")


def fit_codebook(points_ND: FloatArray, sizes: tuple[int, ...], settings: IdentifierSettings, seed: int) -> Codebook:
    """A codebook fitted on N points in memory (items and queries together, or a sample of them).

    What the first two levels leave is clustered under a capacity; the rotation and the fine levels are fitted on what the
    codes that the capacity allowed leave. Sizes shrink to N where there are fewer points.

    Raises:
        InvalidValue: no points, values that are not finite, or an odd embedding width.
    """
    left_ND = np.ascontiguousarray(points_ND, dtype=np.float32)
    if len(left_ND) == 0 or left_ND.shape[1] % 2 or not np.isfinite(left_ND).all():
        raise InvalidValue("embeddings to fit on", left_ND.shape, "finite [N >= 1, even D]", "check the encoder")
    with one_thread():
        residual = []
        for level in range(RESIDUAL_LEVELS):
            if level < RESIDUAL_LEVELS - 1:
                centroids_KD = fit_kmeans(left_ND, sizes[level], settings.iterations, seed + level)
                code_N: NDArray[np.integer] = Centroids(centroids_KD).nearest(left_ND)
            else:
                capacity = even_capacity(len(left_ND), min(sizes[level], len(left_ND)), settings.capacity_slack)
                centroids_KD, code_N = fit_balanced(left_ND, sizes[level], capacity, settings.iterations, seed + level)
            residual.append(centroids_KD)
            left_ND = left_ND - centroids_KD[code_N]
        rotation_DD = _fit_rotation(left_ND, sizes[RESIDUAL_LEVELS:], settings, seed)
        halves = np.split(left_ND @ rotation_DD.T, len(sizes) - RESIDUAL_LEVELS, axis=1)
        fine = tuple(
            fit_kmeans(half, size, settings.iterations, seed + RESIDUAL_LEVELS + n)
            for n, (half, size) in enumerate(zip(halves, sizes[RESIDUAL_LEVELS:], strict=True))
        )
    return Codebook(tuple(residual), rotation_DD, fine)


def _fit_rotation(left_ND: FloatArray, sizes: tuple[int, ...], settings: IdentifierSettings, seed: int) -> FloatArray:
    """The OPQ rotation [D, D] of the last residual (faiss), fitted on at most 256 points a centroid."""
    width = left_ND.shape[1]
    bits = max(1, min(max(sizes).bit_length() - 1, 8))
    if len(left_ND) < max(2**bits, width):
        # Too few points to fit anything. faiss 1.15 does not say so: below D points it writes outside its buffers.
        return np.eye(width, dtype=np.float32)
    most = 2**bits * 256
    sample = left_ND
    if len(left_ND) > most:
        sample = left_ND[np.sort(np.random.default_rng(seed).choice(len(left_ND), most, replace=False))]
    matrix = faiss.OPQMatrix(width, len(sizes))
    quantiser = faiss.ProductQuantizer(width, len(sizes), bits)
    quantiser.cp.seed = int_seed(seed)
    quantiser.cp.min_points_per_centroid = 1
    matrix.pq = quantiser
    matrix.niter, matrix.niter_pq, matrix.niter_pq_0 = settings.opq_iterations, 4, 10
    matrix.train(np.ascontiguousarray(sample))
    return cast(FloatArray, faiss.vector_to_array(matrix.A).reshape(width, width).copy())
