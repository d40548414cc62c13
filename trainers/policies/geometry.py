"""Where embeddings start: identifiers at their centroids, in the space the dense query vector is projected into.

One random orthogonal projection E -> D serves both, so that before any training a query vector already points at the
identifiers whose items it resembles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.policies.tokenizer import PromptTokenizer


def fresh_embeddings(
    shared_VD: Tensor,
    dense_DE: Tensor,
    tokenizer: PromptTokenizer,
    std: float,
    centroids: Sequence[NDArray[np.float32]] | None,
) -> None:
    """Fill the projection and, where centroids are given, the identifier rows, in place; draws from torch's generator.

    Every level keeps its own geometry and gets ``std`` as the root mean square of its entries.

    Raises:
        InvalidValue: the centroids do not have one row for every code of every level.
    """
    # A unit vector's image has entries of this size: the slot starts as loud as a token.
    torch.nn.init.orthogonal_(dense_DE)
    dense_DE.mul_(std * dense_DE.shape[1] ** 0.5)
    if centroids is None:
        return
    found = tuple(len(level) for level in centroids)
    if found != tokenizer.level_sizes:
        raise InvalidValue(
            "rows of the centroids", found, str(tokenizer.level_sizes), "take them from the policy's codebook"
        )
    for start, centroid_KE in zip(tokenizer.level_start, centroids, strict=True):
        points_KE = torch.from_numpy(np.ascontiguousarray(centroid_KE, dtype=np.float32))
        if points_KE.shape[1] == dense_DE.shape[1]:
            rows_KD = points_KE @ dense_DE.T
        else:
            rows_KD = points_KE @ torch.nn.init.orthogonal_(torch.empty(points_KE.shape[1], dense_DE.shape[0]))
        size = rows_KD.square().mean().sqrt().clamp_min(1e-12)
        shared_VD[start : start + len(rows_KD)] = rows_KD * (std / size)
