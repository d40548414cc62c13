"""Isotonic calibration against scikit-learn, and what it does to predictions that are off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from reward.calibration import IDENTITY, bin_of, corrector, fit, isotonic, tally
from reward.counts import UNIT
from reward.settings import PosteriorSettings

SETTINGS = PosteriorSettings(calibration_bins=16, calibration_prior=20)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 50)), min_size=1, max_size=25))
def test_same_as_scikit_learn(points: list[tuple[float, float]]) -> None:
    y_K, weight_K = (np.array(column) for column in zip(*points, strict=True))
    expected = IsotonicRegression().fit_transform(np.arange(len(y_K)), y_K, sample_weight=weight_K)
    assert np.allclose(isotonic(y_K, weight_K), expected, atol=1e-9)


def test_without_outcomes_it_is_nearly_the_identity() -> None:
    """Every bin agrees with its own prediction, so the map is the identity between the bins' centres."""
    calibrator = fit([np.zeros((16, 3), np.int64)], 1, SETTINGS, UNIT)
    p = np.array([0.0005, 0.01, 0.1, 0.5])
    assert np.allclose(calibrator.apply(p), p, rtol=1e-9)
    assert IDENTITY.apply(0.3) == pytest.approx(0.3)


def test_predictions_twice_too_high_are_halved() -> None:
    """200,000 examined positions predicted .2 that click at .1: the calibrated value is .1, apart from the prior's
    20 positions at the bin's own centre (about 1e-4 of the mass)."""
    examined = np.full(2_000, 100 * UNIT, np.int64)
    outcome = tally(np.full(2_000, 0.2), examined, np.full(2_000, 10, np.int64), 16)
    assert outcome.sum(axis=0).tolist() == [200_000 * UNIT, round(0.2 * 100 * UNIT) * 2_000, 20_000]
    calibrator = fit([outcome], 1, SETTINGS, UNIT)
    assert calibrator.apply(0.2) == pytest.approx(0.1, abs=1e-3)


@given(st.lists(st.tuples(st.floats(1e-6, 0.999), st.integers(0, 40), st.integers(0, 3)), max_size=30))
def test_it_is_monotone_and_stays_in_bounds(outcomes: list[tuple[float, int, int]]) -> None:
    """Also where more is clicked than was examined (a click far down the page)."""
    mean, shown, clicks = (np.array([o[n] for o in outcomes]) for n in range(3))
    counted = tally(mean.astype(float), shown.astype(np.int64) * UNIT // 7, clicks.astype(np.int64), 16)
    calibrated = fit([counted], 1, SETTINGS, UNIT).apply(np.linspace(0, 1, 300))
    assert np.all(np.diff(calibrated) >= -1e-12) and calibrated.min() >= 0 and calibrated.max() <= 1


def test_bins_are_equal_in_log_scale() -> None:
    """Four bins over [1e-4, 1]: a decade each; the ends take what lies beyond."""
    assert bin_of(np.array([1e-9, 2e-4, 2e-3, 2e-2, 0.2, 1.0]), 4).tolist() == [0, 0, 1, 2, 3, 3]


def test_the_corrector_keeps_still_within_chance_and_is_bounded() -> None:
    """100 expected: 118 is 1.8 deviations away: nothing. 150 is 5: 1 + (1 - 4 / 25) / 2 = 1.42. 300 meets the bound."""
    assert corrector(118, 100, 2) == 1.0 and corrector(100, 100, 2) == 1.0
    assert corrector(150, 100, 2) == pytest.approx(1.42)
    assert corrector(300, 100, 2) == 2 and corrector(0, 100, 2) == 0.5 and corrector(7, 0, 2) == 1.0


def test_after_a_jump_the_corrector_follows_before_the_long_window_does() -> None:
    """27 snapshots in which .2 comes true, then two in which .12 does: the map alone still says nearly .2."""

    def snapshot(rate: float) -> np.ndarray:
        return tally(np.full(100, 0.2), np.full(100, 50 * UNIT, np.int64), np.full(100, int(50 * rate), np.int64), 16)

    outcomes = [snapshot(0.2)] * 27 + [snapshot(0.12)] * 2
    calibrator = fit(outcomes, 3, SETTINGS, UNIT)
    assert np.interp(0.2, calibrator.x_K, calibrator.y_K) > 0.19
    assert calibrator.apply(0.2) == pytest.approx(0.12 if SETTINGS.corrector_bound > 2 else 0.2 / 1.5, rel=0.05)
    assert fit(outcomes[:27], 3, SETTINGS, UNIT).corrector == 1.0


def test_a_perfect_prediction_that_is_not_a_bins_centre_stays() -> None:
    """.2 comes true, in a bin whose centre is elsewhere: the prior of identity does not bend the map."""
    outcome = tally(np.full(10, 0.2), np.full(10, 10 * UNIT, np.int64), np.full(10, 2, np.int64), 16)
    assert fit([outcome], 1, SETTINGS, UNIT).apply(0.2) == pytest.approx(0.2, rel=1e-9)
