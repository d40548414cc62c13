"""Kappa's interval and the calibration errors, held against loops and hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest

from reward.relevance_metrics import (
    RESAMPLES,
    calibration_error,
    kappa_gain,
    quadratic_kappa,
    reliability,
    tier_calibration_error,
)


def test_the_interval_is_that_of_queries_drawn_and_laid_end_to_end() -> None:
    """The slow way: take each drawn query's judgments as often as it was drawn, and compute both kappas anew."""
    rng = np.random.default_rng(5)
    query_N = np.sort(rng.integers(0, 12, 90)) * 3  # numbers with gaps
    tier_N = rng.integers(0, 4, 90)
    ours_N, theirs_N = np.clip(tier_N + rng.integers(-1, 2, 90), 0, 3), rng.integers(0, 4, 90)
    queries = np.unique(query_N)
    drawn_RQ = np.random.default_rng(7).multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=RESAMPLES)
    gains = []
    for drawn_Q in drawn_RQ:
        rows = np.concatenate(
            [np.flatnonzero(query_N == q) for q, times in zip(queries, drawn_Q, strict=True) for _ in range(times)]
        )
        gains.append(quadratic_kappa(ours_N[rows], tier_N[rows]) - quadratic_kappa(theirs_N[rows], tier_N[rows]))
    expected = np.quantile(gains, [0.025, 0.975])
    assert kappa_gain(ours_N, theirs_N, tier_N, query_N, seed=7) == pytest.approx(tuple(expected))


def test_one_and_the_same_is_no_gain_and_judgments_of_one_query_are_not_many() -> None:
    """A hundred copies of each judgment, all in its query, tell nothing new: the interval stays as wide."""
    rng = np.random.default_rng(1)
    tier_N, query_N = rng.integers(0, 4, 60), np.repeat(np.arange(20), 3)
    ours_N, theirs_N = np.where(rng.random(60) < 0.7, tier_N, rng.integers(0, 4, 60)), rng.integers(0, 4, 60)
    assert kappa_gain(ours_N, ours_N, tier_N, query_N, seed=0) == (0, 0)
    once = kappa_gain(ours_N, theirs_N, tier_N, query_N, seed=0)
    copied = kappa_gain(*(np.repeat(a, 100) for a in (ours_N, theirs_N, tier_N, query_N)), seed=0)
    assert copied == pytest.approx(once)


def test_calibration_errors_by_hand() -> None:
    """Said .75 four times, right twice; said .25 once, right: (4 * .25 + 1 * .75) / 5. 1.0 falls into the last bin."""
    p_N, right_N = [0.75, 0.75, 0.75, 0.75, 0.25], [True, True, False, False, True]
    assert calibration_error(p_N, right_N) == pytest.approx((4 * 0.25 + 0.75) / 5)
    assert reliability(p_N, right_N) == ((0.25, 1.0, 1), (0.75, 0.5, 4))
    assert reliability([1.0], [True]) == ((1.0, 1.0, 1),)
    assert calibration_error([], []) == 0
    # Tier 0 said with certainty, and it is tier 0 in one case of two: tiers 0 and 1 are each off by a half.
    p_NT = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    assert tier_calibration_error(p_NT, np.array([0, 1])) == pytest.approx((0.5 + 0.5) / 4)
