"""Strength of a level's Beta prior, fitted to how much its children differ: moments with the best weights.

With m the parent's mean and v = m (1 - m) / (s + 1) the spread of the children, a child's clicks have
E[(c - n m)^2] = (a m - b m^2) + (n^2 - b) v + n^2 Var(m). So 1 / (s + 1) is a weighted ratio of sums over children; the best
weights are the inverse variances of the squares, which depend on s: they are found by repetition (Fisher scoring).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.settings import PosteriorSettings

Floats = NDArray[np.float64]

#: Repetitions of the weighting.
ROUNDS: Final = 6


class Evidence(NamedTuple):
    """Of C children: ``n_C`` examined positions, ``x_C`` clicks, whose variance at rate m is a_C m - b_C m^2.

    Of decayed counts with weights w: a is the sum of w^2 theta, b of w^2 theta^2.
    """

    n_C: Floats
    x_C: Floats
    a_C: Floats
    b_C: Floats


def fit_strength(
    evidence: Evidence, parent_C: Floats, parent_variance_C: Floats, guess: float, settings: PosteriorSettings
) -> float:
    """Strength s of the children's prior around ``parent_C``; ``guess`` starts the weights.

    ``prior_strength`` joins as one observation of 1 / (1 + s) with its ``prior_strength_spread``, so that few children, or
    children shown once, hardly move it.
    """
    n_C, x_C, a_C, b_C = evidence
    spread_C = np.maximum(n_C**2 - b_C, 0.0) * parent_C * (1 - parent_C)
    chance_C = np.maximum(a_C * parent_C - b_C * parent_C**2, 0.0) + n_C**2 * parent_variance_C
    excess_C = (x_C - n_C * parent_C) ** 2 - chance_C
    told = spread_C > 0
    spread_C, chance_C, excess_C = spread_C[told], chance_C[told], excess_C[told]
    prior = 1 / (1 + settings.prior_strength)
    trust = (settings.prior_strength_spread * prior) ** -2
    low, high = 1 / (1 + settings.strength_high), 1 / (1 + settings.strength_low)
    share = 1 / (1 + guess)
    for _ in range(ROUNDS):
        weight_C = 0.5 * spread_C / (chance_C + share * spread_C) ** 2
        total = trust * prior + float((weight_C * excess_C).sum())
        share = min(max(total / (trust + float((weight_C * spread_C).sum())), low), high)
    return 1 / share - 1
