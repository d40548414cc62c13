"""From logits to tiers: a temperature that makes the probabilities honest, and borders on the expected tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.judgments import TIERS
from reward.relevance_losses import Tier, softmax
from reward.relevance_metrics import log_loss, quadratic_kappa

#: Temperatures that are tried. A scorer that only names a tier is far too sure, so the range is wide upwards.
TEMPERATURES: Final = np.exp2(np.linspace(-2, 4, 121))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """p = softmax(logit / ``temperature``); the tier is where ``threshold_3`` cut the expected tier, sum of t * p_t."""

    temperature: float
    threshold_3: tuple[float, float, float]

    @classmethod
    def fit(cls, logit_NT: NDArray[Any], tier_N: Tier) -> Calibration:
        """The temperature of least log-loss, then the borders of the highest quadratic kappa, on N judgments."""
        logit_NT = logit_NT.astype(np.float64)
        temperature = float(min(TEMPERATURES, key=lambda t: log_loss(softmax(logit_NT / t), tier_N)))
        low, middle, high = best_thresholds(softmax(logit_NT / temperature) @ np.arange(TIERS), tier_N).tolist()
        return cls(temperature, (low, middle, high))

    def probabilities(self, logit_NT: NDArray[Any]) -> Floats:
        """p_NT: calibrated probability of each tier."""
        p_NT: Floats = softmax(logit_NT.astype(np.float64) / self.temperature)
        return p_NT

    def tiers(self, logit_NT: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """(tier_N, probability of that tier)."""
        p_NT = self.probabilities(logit_NT)
        tier_N = np.digitize(p_NT @ np.arange(TIERS), self.threshold_3).astype(np.int8)
        return tier_N, p_NT[np.arange(len(tier_N)), tier_N].astype(np.float32)


def best_thresholds(score_N: ArrayLike, tier_N: Tier) -> Floats:
    """Three ascending borders on a score that give the highest quadratic kappa: coordinate ascent from equal shares."""
    score = np.asarray(score_N, np.float64)
    grid = np.unique(np.quantile(score, np.linspace(0.005, 0.995, 100)))
    share_3 = np.cumsum(np.bincount(tier_N, minlength=TIERS))[:-1] / max(1, len(tier_N))
    border_3 = np.sort(np.quantile(score, share_3))
    best = quadratic_kappa(np.digitize(score, border_3), tier_N)
    for _ in range(4):
        before = best
        for k in range(3):
            low, high = border_3[k - 1] if k else -np.inf, border_3[k + 1] if k < 2 else np.inf
            for border in grid[(grid >= low) & (grid <= high)]:
                tried_3 = border_3.copy()
                tried_3[k] = border
                kappa = quadratic_kappa(np.digitize(score, tried_3), tier_N)
                if kappa > best:
                    best, border_3 = kappa, tried_3
        if best == before:
            break
    return border_3
