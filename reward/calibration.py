"""Calibration of predicted CTR: isotonic regression over bins of what was predicted and what then happened, and a factor
for what has changed since.

The outcomes are progressive: each one is compared with the snapshot published before it. Counts are integers per bin
and snapshot, so a calibrator is the same however its outcomes were cut into chunks. The regression sees a long window and
knows each bin; the corrector sees the last snapshots alone, knows one factor, and keeps still as long as chance explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.settings import PosteriorSettings

#: Predicted CTR below this falls into the first bin.
LEAST: Final = 1e-4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Calibrator:
    """A monotone map, linear between K knots, times ``corrector``. Version 0 is the identity."""

    version: int
    x_K: Floats
    y_K: Floats
    corrector: float = 1.0

    def apply(self, mean: ArrayLike) -> Floats:
        """Calibrated CTR of predictions of any shape, at most 1."""
        mapped = np.interp(np.asarray(mean, np.float64), self.x_K, self.y_K)
        return np.asarray(np.minimum(mapped * self.corrector, 1.0), np.float64)


IDENTITY: Final = Calibrator(0, np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def bin_of(mean_N: Floats, bins: int) -> Ints:
    """Bin of each prediction: equal widths in log scale over [LEAST, 1]."""
    place_N = np.log(np.maximum(mean_N, LEAST) / LEAST) / -np.log(LEAST)
    bin_N: Ints = np.clip((place_N * bins).astype(np.int64), 0, bins - 1)
    return bin_N


def tally(mean_N: Floats, examined_N: Ints, clicks_N: Ints, bins: int) -> Ints:
    """Outcomes per bin, [bins, 3]: examined mass, predicted clicks (both in units of 2**-20) and clicks."""
    outcome_K3 = np.zeros((bins, 3), np.int64)
    predicted_N = np.rint(examined_N * mean_N).astype(np.int64)
    np.add.at(outcome_K3, bin_of(mean_N, bins), np.stack([examined_N, predicted_N, clicks_N], axis=1))
    return outcome_K3


def fit(outcomes: Sequence[Ints], version: int, settings: PosteriorSettings, unit: int) -> Calibrator:
    """The calibrator of `tally` counts per snapshot, oldest first; ``unit`` is the fixed point of the mass."""
    x_K, y_K = _map(np.sum(outcomes[-settings.calibration_snapshots :], axis=0), settings, unit)
    newest_K3 = np.sum(outcomes[-settings.corrector_snapshots :], axis=0)
    n_K = newest_K3[:, 0] / unit
    said_K = np.divide(newest_K3[:, 1] / unit, n_K, out=np.zeros(len(n_K)), where=n_K > 0)
    expected = float((n_K * np.interp(said_K, x_K, y_K)).sum())
    factor = corrector(float(newest_K3[:, 2].sum()), expected, settings.corrector_bound)
    return Calibrator(version, x_K, y_K, factor)


def corrector(clicks: float, expected: float, bound: float) -> float:
    """Clicks over expected clicks, within [1 / bound, bound], pulled to 1 as far as chance may explain it.

    With z the distance in standard deviations (clicks as a Poisson number), the pull is the positive part of 1 - (2 / z)^2: none of a difference
    within two deviations acts, nearly all of one of ten does (James and Stein's estimator with a dead zone).
    """
    if expected <= 0:
        return 1.0
    z_squared = (clicks - expected) ** 2 / expected
    trusted = max(0.0, 1 - 4 / z_squared) if z_squared > 0 else 0.0
    return float(np.clip(1 + trusted * (clicks / expected - 1), 1 / bound, bound))


def _map(outcome_K3: Ints, settings: PosteriorSettings, unit: int) -> tuple[Floats, Floats]:
    """Knots of the isotonic map. Each bin holds ``calibration_prior`` examined positions that agree with the prediction, so
    that an empty bin keeps the identity and a thin one hardly moves."""
    bins = len(outcome_K3)
    edges = LEAST ** (1 - np.arange(bins + 1) / bins)
    centre_K = np.sqrt(edges[:-1] * edges[1:])
    prior = settings.calibration_prior
    n_K = outcome_K3[:, 0] / unit
    # The prior agrees with what was said, not with the bin's centre: else it would bend the map within the bin.
    said_K = np.divide(outcome_K3[:, 1] / unit, n_K, out=centre_K.copy(), where=n_K > 0)
    x_K = np.maximum.accumulate(np.clip(said_K, edges[:-1], edges[1:]))
    y_K = isotonic(np.clip((outcome_K3[:, 2] + prior * x_K) / (n_K + prior), 0.0, 1.0), n_K + prior)
    # The ends are pinned, so that predictions outside the bins' means stay inside (0, 1) and in order.
    return np.r_[0.0, x_K, 1.0], np.r_[0.0, y_K, 1.0]


def isotonic(y_K: Floats, weight_K: Floats) -> Floats:
    """The non-decreasing sequence nearest to ``y_K`` in weighted squares (pool adjacent violators)."""
    means: list[float] = []
    weights: list[float] = []
    sizes: list[int] = []
    for y, weight in zip(y_K.tolist(), weight_K.tolist(), strict=True):
        means.append(y)
        weights.append(weight)
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            mean, mass, size = means.pop(), weights.pop(), sizes.pop()
            means[-1] = (means[-1] * weights[-1] + mean * mass) / (weights[-1] + mass)
            weights[-1] += mass
            sizes[-1] += size
    return np.repeat(np.array(means, np.float64), sizes)
