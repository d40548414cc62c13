"""Prefix rewards: how much of a target each rollout has reproduced after every token (Eq. 13)."""

from __future__ import annotations

from torch import Tensor

from trainers.credit.matches import best_prefix

#: w of Eq. 13: three shared residual levels weigh 2, the two OPQ levels 1. [trap] indexed from the first token: the
#: authors' release shifts it by one, under-weights level 3 and never rewards the last token.
WEIGHTS_L: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0, 1.0)


def prefix_rewards(match_BGTL: Tensor, weights_L: Tensor) -> Tensor:
    """Eq. 13: R_{i,l} = max_t sum_{k<=l} w_k m_{i,k,t}. Returns R_BGL in the dtype of the weights."""
    return best_prefix(match_BGTL, weights_L)
