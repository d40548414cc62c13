"""The codebook: three levels of residual centroids, then a rotation and two sub-quantisers (RQ-OPQ, EQUATIONS 1).

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

from schemas.errors import InvalidValue
from trainers.identifiers.balanced import even_capacity, fit_balanced
from trainers.identifiers.kmeans import distances, fit_kmeans, nearest, one_thread
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

    def encode(self, emb_ND: FloatArray) -> Codes:
        """The nearest codes [N, L], level after level. One row's codes do not depend on the other rows."""
        left_ND = self._checked(emb_ND)
        codes = []
        with one_thread():
            for centroids in self.residual:
                codes.append(nearest(left_ND, centroids))
                left_ND = left_ND - centroids[codes[-1]]
            for half, centroids in zip(self.halves(left_ND), self.fine, strict=True):
                codes.append(nearest(half, centroids))
        return np.stack(codes, axis=1)

    def halves(self, residual_ND: FloatArray) -> list[FloatArray]:
        """The rotated residual, cut for the sub-quantisers: arrays [N, D / 2]."""
        return np.split(residual_ND @ self.rotation_DD.T, len(self.fine), axis=1)

    def residual_after(self, emb_ND: FloatArray, codes_NL: NDArray[np.integer], level: int) -> FloatArray:
        """What is left of N embeddings after the first ``level`` residual codes, [N, D]."""
        left_ND = self._checked(emb_ND)
        for index in range(level):
            left_ND = left_ND - self.residual[index][codes_NL[:, index]]
        return left_ND

    def decode(self, codes_NL: NDArray[np.integer]) -> FloatArray:
        """The embeddings [N, D] that the codes stand for: all levels' centroids added up."""
        coarse_ND = sum(centroids[codes_NL[:, level]] for level, centroids in enumerate(self.residual))
        fine = [centroids[codes_NL[:, RESIDUAL_LEVELS + half]] for half, centroids in enumerate(self.fine)]
        return cast(FloatArray, coarse_ND + np.concatenate(fine, axis=1) @ self.rotation_DD)

    def centroids(self, level: int) -> FloatArray:
        """Centroids of a level in embedding space, [K, D]: a start for the tokens' embeddings of a model."""
        if level < RESIDUAL_LEVELS:
            return self.residual[level]
        width = self.dim // len(self.fine)
        half = level - RESIDUAL_LEVELS
        return cast(FloatArray, self.fine[half] @ self.rotation_DD[half * width : (half + 1) * width])

    def to_bytes(self) -> bytes:
        """As an npz file."""
        buffer = io.BytesIO()
        arrays = {f"residual_{level}": array for level, array in enumerate(self.residual)}
        arrays |= {f"fine_{half}": array for half, array in enumerate(self.fine)}
        np.savez(buffer, allow_pickle=False, rotation=self.rotation_DD, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Codebook:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            residual = tuple(file[f"residual_{level}"] for level in range(RESIDUAL_LEVELS))
            fine = tuple(file[name] for name in sorted(file.files) if name.startswith("fine_"))
            return cls(residual, file["rotation"], fine)

    def _checked(self, emb_ND: FloatArray) -> FloatArray:
        emb = np.asarray(emb_ND, dtype=np.float32)
        if emb.ndim != 2 or emb.shape[1] != self.dim:
            raise InvalidValue("embeddings' shape", emb.shape, f"[N, {self.dim}]", "use the encoder of the codebook")
        return emb


def fit_codebook(
    points_ND: FloatArray, sizes: tuple[int, ...], settings: IdentifierSettings, seed: int
) -> tuple[Codebook, Codes]:
    """A codebook fitted on N points (items and queries together), and the points' codes [N, L].

    The codes differ from `Codebook.encode` in level 3 alone, where the capacity moved points away from full cells, and
    in the levels below for those points. Sizes shrink to N where there are fewer points.

    Raises:
        InvalidValue: no points, values that are not finite, or an odd embedding width.
    """
    points = np.ascontiguousarray(points_ND, dtype=np.float32)
    if len(points) == 0 or points.shape[1] % 2 or not np.isfinite(points).all():
        raise InvalidValue("embeddings to fit on", points.shape, "finite [N >= 1, even D]", "check the encoder")
    with one_thread():
        residual, codes = [], []
        left_ND = points
        for level in range(RESIDUAL_LEVELS):
            if level < RESIDUAL_LEVELS - 1:
                centroids = fit_kmeans(left_ND, sizes[level], settings.iterations, seed + level)
                code = nearest(left_ND, centroids)
            else:
                capacity = even_capacity(len(points), min(sizes[level], len(points)), settings.capacity_slack)
                centroids, assigned = fit_balanced(left_ND, sizes[level], capacity, settings.iterations, seed + level)
                code = assigned.astype(np.int32)
            residual.append(centroids)
            codes.append(code)
            left_ND = left_ND - centroids[code]
        rotation_DD = _fit_rotation(left_ND, sizes[RESIDUAL_LEVELS:], settings, seed)
        halves = np.split(left_ND @ rotation_DD.T, len(sizes) - RESIDUAL_LEVELS, axis=1)
        fine = []
        for half, (part, size) in enumerate(zip(halves, sizes[RESIDUAL_LEVELS:], strict=True)):
            fine.append(fit_kmeans(part, size, settings.iterations, seed + RESIDUAL_LEVELS + half))
            codes.append(nearest(np.ascontiguousarray(part), fine[-1]))
    return Codebook(tuple(residual), rotation_DD, tuple(fine)), np.stack(codes, axis=1)


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
    quantiser.cp.seed = seed
    quantiser.cp.min_points_per_centroid = 1
    matrix.pq = quantiser
    matrix.niter, matrix.niter_pq, matrix.niter_pq_0 = settings.opq_iterations, 4, 10
    matrix.train(np.ascontiguousarray(sample))
    return cast(FloatArray, faiss.vector_to_array(matrix.A).reshape(width, width).copy())


def offsets_to_fine(codebook: Codebook, residual_D: FloatArray) -> list[NDArray[np.float64]]:
    """Squared distances (less a constant) of one last residual to every fine centroid, per sub-quantiser [K]."""
    halves = codebook.halves(residual_D[None, :])
    return [distances(half, centroids)[0] for half, centroids in zip(halves, codebook.fine, strict=True)]
