"""Empirical-Bayes CTR: a hierarchy global -> item -> (query, item) with fitted strengths (EQUATIONS 6).

Each level's Beta prior has the mean of its parent and one strength for the level, fitted by the method of moments.
A child's own evidence is left out of its parent's mean, or it would count twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reward.counts import Sums
from reward.settings import PosteriorSettings

Floats = NDArray[np.float64]

#: Means stay inside [FLOOR, 1 - FLOOR].
FLOOR: Final = 1e-6

#: Least informative mass a strength can be fitted from; below it the setting's prior strength stands.
_LEAST_MASS: Final = 1.0


@dataclass(frozen=True)
class Level:
    """Posterior of C children: Beta with mean ``mean_C`` and variance ``variance_C``; ``strength`` of their prior."""

    strength: float
    mean_C: Floats
    variance_C: Floats


@dataclass(frozen=True)
class Posterior:
    """``mean`` and ``variance`` of the whole, then per item, then per pair, in the order of the sums."""

    mean: float
    variance: float
    items: Level
    pairs: Level
    item_n_I: Floats


def fit(sums: Sums, settings: PosteriorSettings) -> Posterior:
    """The hierarchy from decayed sums."""

    def by_item(values_P: Floats) -> Floats:
        return np.bincount(sums.item_P, weights=values_P, minlength=len(sums.items)).astype(np.float64)

    strength = settings.prior_strength
    successes = strength * settings.prior_ctr
    n_I, clicks_I = by_item(sums.n_P), by_item(sums.clicks_P)
    whole_n, whole_clicks = float(n_I.sum()), float(clicks_I.sum())
    mean = _clip((successes + whole_clicks) / (strength + whole_n))

    parent_I = _clip((successes + whole_clicks - clicks_I) / (strength + whole_n - n_I))
    parent_variance_I = parent_I * (1 - parent_I) / (strength + whole_n - n_I + 1)
    items = _level(n_I, by_item(sums.n2_P), by_item(sums.s2_P), clicks_I, parent_I, parent_variance_I, settings)

    rest_n_P = items.strength + n_I[sums.item_P] - sums.n_P
    rest_clicks_P = items.strength * parent_I[sums.item_P] + clicks_I[sums.item_P] - sums.clicks_P
    parent_P = _clip(rest_clicks_P / rest_n_P)
    parent_variance_P = parent_P * (1 - parent_P) / (rest_n_P + 1)
    pairs = _level(sums.n_P, sums.n2_P, sums.s2_P, sums.clicks_P, parent_P, parent_variance_P, settings)
    variance = float(mean * (1 - mean) / (strength + whole_n + 1))
    return Posterior(float(mean), variance, items, pairs, n_I)


def fit_strength(
    n_C: Floats, n2_C: Floats, s2_C: Floats, clicks_C: Floats, parent_C: Floats, parent_variance_C: Floats
) -> float | None:
    """Strength s of the children's Beta prior by the method of moments; None when the data cannot tell.

    With m the parent's mean and v = m (1 - m) / (s + 1) the spread of the children, a decayed click sum has
    E[(c - n m)^2] = (n2 m - s2 m^2) + (n^2 - s2) v + n^2 Var(m), so 1 / (s + 1) is a ratio of two sums over children.
    A spread below zero (less than chance) gives infinity.
    """
    chance = n2_C * parent_C - s2_C * parent_C**2 + n_C**2 * parent_variance_C
    mass = float(np.sum(np.maximum(n_C**2 - s2_C, 0.0)))
    spread = float(np.sum(np.maximum(n_C**2 - s2_C, 0.0) * parent_C * (1 - parent_C)))
    if mass < _LEAST_MASS:
        return None
    share = float(np.sum((clicks_C - n_C * parent_C) ** 2 - chance)) / spread
    return np.inf if share <= 0 else max(0.0, 1.0 / share - 1.0)


def _level(
    n_C: Floats,
    n2_C: Floats,
    s2_C: Floats,
    clicks_C: Floats,
    parent_C: Floats,
    parent_variance_C: Floats,
    settings: PosteriorSettings,
) -> Level:
    fitted = fit_strength(n_C, n2_C, s2_C, clicks_C, parent_C, parent_variance_C)
    strength = settings.prior_strength if fitted is None else fitted
    strength = float(np.clip(strength, settings.strength_low, settings.strength_high))
    mean_C = _clip((strength * parent_C + clicks_C) / (strength + n_C))
    return Level(strength, mean_C, mean_C * (1 - mean_C) / (strength + n_C + 1))


def _clip(mean: Floats | float) -> Floats:
    return np.clip(np.asarray(mean, np.float64), FLOOR, 1 - FLOOR)
