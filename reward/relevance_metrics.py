"""Agreement of tiers with judgments: kappa with an interval, log-loss, and whether a stated probability is one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.judgments import TIERS

#: Resamples of the queries, and the mass of the interval that they give.
RESAMPLES: Final = 1_000
MASS: Final = 0.95
BINS: Final = 10

_DISTANCE_TT: Final = ((np.arange(TIERS)[:, None] - np.arange(TIERS)) ** 2).astype(np.float64)

Floats = NDArray[np.float64]


def confusion(predicted_N: ArrayLike, tier_N: ArrayLike) -> NDArray[np.int64]:
    """Counts [true tier, predicted tier]."""
    cell_N = np.asarray(tier_N, np.int64) * TIERS + np.asarray(predicted_N, np.int64)
    return np.bincount(cell_N, minlength=TIERS * TIERS).reshape(TIERS, TIERS)


def quadratic_kappa(predicted_N: ArrayLike, tier_N: ArrayLike) -> float:
    """Cohen's kappa with squared distances as weights: 1 for agreement, 0 for chance; 0 when both sides are constant."""
    return float(kappas(confusion(predicted_N, tier_N).astype(np.float64)))


def kappas(table_TT: Floats) -> Floats:
    """Quadratic kappa of each confusion table [..., true, predicted]."""
    total = np.maximum(1.0, table_TT.sum(axis=(-2, -1)))
    chance_TT = table_TT.sum(axis=-1)[..., :, None] * table_TT.sum(axis=-2)[..., None, :] / total[..., None, None]
    expected = (_DISTANCE_TT * chance_TT).sum(axis=(-2, -1))
    observed = (_DISTANCE_TT * table_TT).sum(axis=(-2, -1))
    found: Floats = np.where(expected > 0, 1.0 - observed / np.where(expected > 0, expected, 1.0), 0.0)
    return found


def kappa_gain(
    ours_N: ArrayLike, theirs_N: ArrayLike, tier_N: ArrayLike, query_N: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Interval of our kappa less theirs on the same pairs: a paired bootstrap whose unit is the query.

    Judgments of one query hang together, so whole queries are drawn, with replacement, both sides from the same draw.
    """
    _, number_N = np.unique(query_N, return_inverse=True)
    count = int(number_N.max()) + 1
    drawn_RQ = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)

    def resampled(predicted_N: ArrayLike) -> Floats:
        cell_N = np.asarray(tier_N, np.int64) * TIERS + np.asarray(predicted_N, np.int64)
        table_QC = np.bincount(number_N * TIERS**2 + cell_N, minlength=count * TIERS**2).reshape(count, TIERS**2)
        return kappas((drawn_RQ @ table_QC).reshape(-1, TIERS, TIERS))

    low, high = np.quantile(resampled(ours_N) - resampled(theirs_N), [(1 - MASS) / 2, (1 + MASS) / 2])
    return float(low), float(high)


def log_loss(p_NT: NDArray[Any], tier_N: NDArray[np.integer[Any]]) -> float:
    """Mean negative log-probability of the true tier (nats)."""
    return float(-np.log(np.clip(p_NT[np.arange(len(tier_N)), tier_N], 1e-12, 1.0)).mean())


def reliability(p_N: ArrayLike, came_N: ArrayLike) -> tuple[tuple[float, float, int], ...]:
    """(mean probability said, share that came true, count) of each of ten equal bins of [0, 1] that holds anything."""
    said_N, true_N = np.asarray(p_N, np.float64), np.asarray(came_N, np.float64)
    bin_N = np.minimum((said_N * BINS).astype(np.int64), BINS - 1)
    count_B, said_B, true_B = (np.bincount(bin_N, weights=w, minlength=BINS) for w in (None, said_N, true_N))
    return tuple(
        (float(said / n), float(true / n), int(n)) for n, said, true in zip(count_B, said_B, true_B, strict=True) if n
    )


def calibration_error(p_N: ArrayLike, came_N: ArrayLike) -> float:
    """Expected |probability said - share that came true| over the bins of `reliability`."""
    bins = reliability(p_N, came_N)
    return sum(n * abs(said - true) for said, true, n in bins) / max(1, sum(n for *_, n in bins))


def tier_calibration_error(p_NT: NDArray[Any], tier_N: NDArray[np.integer[Any]]) -> float:
    """Mean over the tiers of the `calibration_error` of that tier's own probability."""
    return float(np.mean([calibration_error(p_NT[:, tier], tier_N == tier) for tier in range(TIERS)]))
