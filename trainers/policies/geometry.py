"""Where embeddings start: identifiers at their centroids, in the space the dense query vector is projected into.

One random orthogonal projection E -> D serves query, history and identifiers, so that before any training a query vector
already points at the identifiers whose items it resembles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.policies.slots import Slots
from trainers.policies.tokenizer import PromptTokenizer

Centroids = Sequence[NDArray[np.float32]] | None  #: per level [K, E]


def fresh_projection(dense: Slots, std: float) -> None:
    """Fill the projections in place, drawing from torch's generator; history starts with the query's.

    A unit vector's image has entries of size ``std``: a slot starts as loud as a token.
    """
    torch.nn.init.orthogonal_(dense.weight)
    dense.weight.mul_(std * dense.in_features**0.5)
    if dense.history is not None:
        dense.history.copy_(dense.weight.expand_as(dense.history))


def identifiers_at_centroids(
    table_VD: Tensor,
    dense: Slots,
    tokenizer: PromptTokenizer,
    std: float,
    centroids: Centroids,
    mean_D: Tensor | None = None,
) -> None:
    """Fill the identifiers' rows of an embedding or output matrix in place; without centroids they stay as they are.

    Every level keeps its own geometry and gets ``std`` as the root mean square of its entries, around ``mean_D`` (none: 0).

    Raises:
        InvalidValue: the centroids do not have one row for every code of every level.
    """
    if centroids is None:
        return
    found = tuple(len(level) for level in centroids)
    if found != tokenizer.level_sizes:
        raise InvalidValue(
            "rows of the centroids", found, str(tokenizer.level_sizes), "take them from the policy's codebook"
        )
    for start, centroid_KE in zip(tokenizer.level_start, centroids, strict=True):
        points_KE = torch.from_numpy(np.ascontiguousarray(centroid_KE, dtype=np.float32))
        if points_KE.shape[1] == dense.in_features:
            rows_KD = points_KE @ dense.weight.T
        else:
            rows_KD = points_KE @ torch.nn.init.orthogonal_(torch.empty(points_KE.shape[1], dense.out_features))
        size = rows_KD.square().mean().sqrt().clamp_min(1e-12)
        table_VD[start : start + len(rows_KD)] = rows_KD * (std / size) + (0.0 if mean_D is None else mean_D)
