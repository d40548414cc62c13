"""How likely a position is looked at: a power of the position as a start, estimated again from the clicks.

Intervention harvesting: a logging policy with chance in it shows the same (query, item) at several positions. With
c of the pair and theta of the position, clicks are Bernoulli(theta_k c); per pair only the contrast between its own
positions counts, so what the policy puts on top does not pass for examination. The fixed point below is unbiased whatever
c is, because its equations are linear in c. The statistic is the counts themselves: shown and clicks per pair and position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.settings import PosteriorSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Rounds of the fixed point at most, and the change of any theta below which it stands still.
ROUNDS: Final = 30
STILL: Final = 1e-6
#: Theta stays inside these, relative to position 1.
LOW, HIGH = 1e-3, 2.0


@dataclass(frozen=True)
class Examination:
    """``theta_T`` of positions 1 to T, relative to position 1; beyond T it falls on by ``power``. Version 0: the start."""

    version: int
    theta_T: Floats
    power: float

    def at(self, position: ArrayLike) -> Floats:
        """Theta at positions of any shape. Position 0 stands for mass that is debiased already: 1."""
        k = np.asarray(position, np.int64)
        last = len(self.theta_T)
        table_T1 = np.concatenate([[1.0], self.theta_T])
        tail = np.maximum(k, last) / last
        return np.asarray(table_T1[np.minimum(k, last)] * tail**-self.power, np.float64)


def start(settings: PosteriorSettings) -> Examination:
    """What is believed before any click: position ** -power."""
    return Examination(0, np.ones(1), settings.position_power)


def estimate(
    pair_R: Ints, position_R: Ints, shown_R: Floats, clicks_R: Floats, version: int, settings: PosteriorSettings
) -> Examination:
    """Theta from R rows of counts: how often a pair (a small number) was shown at a position (from 1), and clicked there.

    Each position holds ``examination_prior`` clicks' worth of the start, so that one without evidence keeps it. Positions
    beyond ``examination_positions`` follow the start's power. The rows' order decides the last bit: pass them sorted.
    """
    use_R = (position_R >= 1) & (position_R <= settings.examination_positions)
    use_R[use_R] = _contrasted(pair_R[use_R], position_R[use_R])
    pair_R, k_R, shown_R, clicks_R = pair_R[use_R], position_R[use_R] - 1, shown_R[use_R], clicks_R[use_R]
    if not np.any(clicks_R > 0):
        return start(settings)
    positions = int(k_R.max()) + 1
    start_T = start(settings).at(np.arange(1, positions + 1))
    clicks_T = np.bincount(k_R, weights=clicks_R, minlength=positions)
    clicks_P = np.maximum(np.bincount(pair_R, weights=clicks_R), 0.0)
    theta_T = start_T
    for _ in range(ROUNDS):
        examined_P = np.bincount(pair_R, weights=shown_R * theta_T[k_R])
        rate_P = clicks_P / np.maximum(examined_P, 1e-12)
        expected_T = np.bincount(k_R, weights=shown_R * rate_P[pair_R], minlength=positions)
        prior = settings.examination_prior
        next_T = (np.maximum(clicks_T, 0.0) + prior * start_T) / (np.maximum(expected_T, 0.0) + prior)
        next_T = np.clip(next_T / next_T[0], LOW, HIGH)
        moved, theta_T = float(np.abs(next_T - theta_T).max()), next_T
        if moved < STILL:
            break
    return Examination(version, theta_T, settings.position_power)


def _contrasted(pair_R: Ints, position_R: Ints) -> NDArray[np.bool_]:
    """Rows [R] of pairs that were shown at more than one position. The others say nothing, and would only pass for
    evidence that there is not, and hold the fixed point where it starts."""
    if not len(pair_R):
        return np.zeros(0, np.bool_)
    pairs = int(pair_R.max()) + 1
    low_P, high_P = np.full(pairs, np.iinfo(np.int64).max), np.zeros(pairs, np.int64)
    np.minimum.at(low_P, pair_R, position_R)
    np.maximum.at(high_P, pair_R, position_R)
    return np.asarray((low_P < high_P)[pair_R], np.bool_)
