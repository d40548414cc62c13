"""Losses of the relevance network: logits and true tiers in, mean loss and its gradient out. Pure, in any precision.

A tier is a rank: to say 0 of what is 3 is worse than to say 2. The ranked probability score knows that, cross-entropy does
not. Letters: N pairs, T tiers, K = T - 1 borders between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

#: float64 or float32: the gradient has the precision of the logits.
Floats = NDArray[Any]
Tier = NDArray[np.integer[Any]]
LossName = Literal["ranked", "nominal"]


def softmax(logit_NT: Floats) -> Floats:
    """p_NT; each row sums to 1."""
    raised_NT = np.exp(logit_NT - logit_NT.max(axis=1, keepdims=True))
    p_NT: Floats = raised_NT / raised_NT.sum(axis=1, keepdims=True)
    return p_NT


def ranked_probability(logit_NT: Floats, tier_N: Tier) -> tuple[float, Floats]:
    """Ordinal: the sum over borders k of (P(tier <= k) - [true tier <= k])^2, the ranked probability score (Epstein, 1969).

    A proper score: least in the mean for the true probabilities. With F_k = P(tier <= k), d loss / d p_t is twice the sum
    over k >= t of (F_k - [true tier <= k]), and softmax's Jacobian takes it to the logits.
    """
    p_NT = softmax(logit_NT)
    borders_K = np.arange(p_NT.shape[1] - 1)
    gap_NK = np.cumsum(p_NT, axis=1)[:, :-1] - (tier_N[:, None] <= borders_K)
    by_p_NT = np.zeros_like(p_NT)
    by_p_NT[:, :-1] = 2 * np.cumsum(gap_NK[:, ::-1], axis=1)[:, ::-1]
    gradient_NT = p_NT * (by_p_NT - (p_NT * by_p_NT).sum(axis=1, keepdims=True))
    return float((gap_NK**2).sum(axis=1).mean()), gradient_NT / len(tier_N)


def cross_entropy(logit_NT: Floats, tier_N: Tier) -> tuple[float, Floats]:
    """Nominal: -log p of the true tier; every wrong tier is as wrong as any other."""
    every_N, p_NT = np.arange(len(tier_N)), softmax(logit_NT)
    loss = float(-np.log(np.maximum(p_NT[every_N, tier_N], np.finfo(p_NT.dtype).tiny)).mean())
    p_NT[every_N, tier_N] -= 1
    return loss, p_NT / len(tier_N)


LOSSES: Final[dict[LossName, Callable[[Floats, Tier], tuple[float, Floats]]]] = {
    "ranked": ranked_probability,
    "nominal": cross_entropy,
}
