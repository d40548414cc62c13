"""Calibration of predicted CTR: isotonic regression over bins of what was predicted and what then happened.

The outcomes are progressive: each one is compared with the snapshot published before it. Counts are integers per bin
and snapshot, so a calibrator is the same however its outcomes were cut into chunks.
"""

from __future__ import annotations

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
    """A monotone map, linear between K knots. Version 0 is the identity."""

    version: int
    x_K: Floats
    y_K: Floats

    def apply(self, mean: ArrayLike) -> Floats:
        """Calibrated CTR of predictions of any shape."""
        return np.asarray(np.interp(np.asarray(mean, np.float64), self.x_K, self.y_K), np.float64)


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


def fit(outcome_K3: Ints, version: int, settings: PosteriorSettings, unit: int) -> Calibrator:
    """The calibrator of summed `tally` counts; ``unit`` is the fixed point of the mass.

    Each bin holds ``calibration_prior`` examined positions that agree with the prediction, so that an empty bin keeps
    the identity and a thin one hardly moves.
    """
    bins = len(outcome_K3)
    edges = LEAST ** (1 - np.arange(bins + 1) / bins)
    centre_K = np.sqrt(edges[:-1] * edges[1:])
    prior = settings.calibration_prior
    n_K = outcome_K3[:, 0] / unit + prior
    predicted_K = outcome_K3[:, 1] / unit + prior * centre_K
    clicks_K = outcome_K3[:, 2] + prior * centre_K
    x_K = np.maximum.accumulate(predicted_K / n_K)
    y_K = isotonic(np.clip(clicks_K / n_K, 0.0, 1.0), n_K)
    # The ends are pinned, so that predictions outside the bins' means stay inside (0, 1) and in order.
    return Calibrator(version, np.r_[0.0, x_K, 1.0], np.r_[0.0, y_K, 1.0])


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
