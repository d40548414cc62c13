"""The checks' mathematics: what is expected, how often chance alone breaks them, and that a real difference does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from schemas.events import SUPPORT_FLOOR
from schemas.integrity import Check
from streams.integrity.checks import NAMES, Arrival, Delays, Draws, Share, checks
from streams.integrity.settings import IntegritySettings

#: Large, so that false alarms could be counted if there were too many.
ALPHA = 0.05
REPEATS = 2_000
#: More of 2,000 than this would be a rate above alpha, by 4.5 standard errors.
MOST = ALPHA * REPEATS + 4.5 * math.sqrt(REPEATS * ALPHA * (1 - ALPHA))


def shares(**changes: object) -> Share:
    fields: dict[str, object] = {
        "name": "s", "prior": (1, 9), "fine": (1, 0), "strength": 2_000, "remedy": "look",
    }  # fmt: skip
    return Share(**(fields | changes))  # type: ignore[arg-type]


def broken(check: Check | None) -> bool:
    assert check is not None
    return check.broken


def test_inverse_propensities_above_the_floor_sum_to_the_support() -> None:
    """By enumeration: sum over x of p(x) * (1 / p(x)) over those with p >= f is their number; what is below counts nowhere."""
    p = np.array([0.5, 0.3, 0.12, 0.045, 0.035])
    mean = sum(q * (1 / q if q >= SUPPORT_FLOOR else 0) for q in p)
    assert mean == pytest.approx(3) and (p >= SUPPORT_FLOOR).sum() == 3


def test_honest_draws_break_as_rarely_as_is_said_and_others_at_once() -> None:
    """2,000 windows of 300 draws from 30 candidates: at most alpha of them break. The same draws logged with the propensities
    of another temperature, or as certain, break all."""
    rng = np.random.default_rng(1)
    p_C = np.exp(np.linspace(0, 4, 30))
    p_C /= p_C.sum()
    other_C = np.sqrt(p_C) / np.sqrt(p_C).sum()
    support = int((p_C >= SUPPORT_FLOOR).sum())
    assert 3 < support < 15

    def window(logged_C: np.ndarray, draws: int) -> Check | None:
        said = logged_C[rng.choice(30, draws, p=p_C)]
        kept = said[said >= SUPPORT_FLOOR]
        return Draws().judge((draws, float((1 / kept).sum()), support * draws), (), ALPHA)

    assert sum(broken(window(p_C, 300)) for _ in range(REPEATS)) <= MOST
    assert all(broken(window(other_C, 3_000)) for _ in range(20))
    assert all(broken(window(np.ones(30), 300)) for _ in range(20))


def test_the_bound_of_draws_by_hand() -> None:
    """800 draws, alpha 0.05: t = sqrt(800 * ln 40 / 2) / 0.05 = 768.3, against a sum of supports of 4,000."""
    check = Draws().judge((800, 4_100.0, 4_000), (), 0.05)
    assert check is not None and check.low is not None and check.high is not None
    assert check.high - 1 == pytest.approx(768.3 / 4_000, rel=1e-3) and 1 - check.low == pytest.approx(check.high - 1)
    assert (check.value, check.expected, check.observed, check.broken) == (4_100 / 4_000, 1.0, 800, False)
    assert Draws().judge((800, 3.0, 0), (), 0.05) is None  # no support is known


@pytest.mark.parametrize(("past", "of"), [((), 400), ((140.0, 2_000.0), 3_000), ((0.0, 2_000.0), 250)])
def test_a_share_drawn_from_its_band_breaks_as_rarely_as_is_said(past: tuple[float, ...], of: int) -> None:
    """The window's true share from the Beta, its events from that share."""
    rng, share = np.random.default_rng(2), shares()
    had, all_ = past or (0.0, 0.0)
    p_R = rng.beta(1 + had, 9 + all_ - had, REPEATS)
    k_R = rng.binomial(of, p_R)
    assert sum(broken(share.judge((float(k), float(of)), past, ALPHA)) for k in k_R) <= MOST


def test_the_bounds_of_a_share_are_the_band_widened_by_the_binomial() -> None:
    """Past 140 of 2,000 and a prior of 1 and 9: quantiles of Beta(141, 1869), then of the binomial, by scipy.stats."""
    check = shares().judge((210.0, 3_000.0), (140.0, 2_000.0), 1e-6)
    assert check is not None and not check.broken and check.expected == pytest.approx(141 / 2_010)
    low_p, high_p = stats.beta.ppf([2.5e-7, 1 - 2.5e-7], 141, 1_869)
    assert check.low == pytest.approx(stats.binom.ppf(2.5e-7, 3_000, low_p) / 3_000, abs=2 / 3_000)
    assert check.high == pytest.approx(stats.binom.isf(2.5e-7, 3_000, high_p) / 3_000, abs=2 / 3_000)


def test_what_is_fine_is_healthy_whatever_the_past_was() -> None:
    """2 % where there was nothing before: far outside the band, and harmless. The other side is not watched."""
    share = shares(prior=(2, 198), fine=(0, 0.05))
    assert not broken(share.judge((200.0, 10_000.0), (0.0, 2_000.0), 1e-6))
    check = share.judge((600.0, 10_000.0), (0.0, 2_000.0), 1e-6)
    assert broken(check) and check is not None and (check.low, check.high) == (None, 0.05)


def test_the_past_of_a_share_counts_as_its_strength_at_most() -> None:
    """300 of 1,000 and 0 of 3,000 are 300 of 4,000, which count as 150 of 2,000."""
    share = shares()
    assert share.learn(share.learn((), (300, 1_000)), (0, 3_000)) == (150, 2_000)


def delays(least: int = 100) -> Delays:
    return Delays("d", 0.0, 2_000, least, "look")


def octaves(rng: np.random.Generator, n: int, scale_ms: float) -> tuple[float, ...]:
    found = np.zeros(33)
    for ms in rng.exponential(scale_ms, n).astype(int).tolist():
        found[ms.bit_length()] += 1
    return tuple(found)


def test_delays_of_one_distribution_break_as_rarely_as_is_said_and_others_at_once() -> None:
    """Past and window both random. A delay eight times as long moves most of them by three octaves."""
    rng = np.random.default_rng(3)
    alarms = sum(broken(delays().judge(octaves(rng, 150, 2e4), octaves(rng, 400, 2e4), ALPHA)) for _ in range(400))
    assert alarms <= ALPHA * 400 + 4.5 * math.sqrt(400 * ALPHA * (1 - ALPHA))
    assert broken(delays().judge(octaves(rng, 200, 16e4), octaves(rng, 2_000, 2e4), 1e-6))


def test_the_bound_of_delays_by_hand() -> None:
    """Half of 200 moved an octave, past 800: distance 0.5; sqrt(ln 80 / 2) = 1.480, so 1.480 / 14.14 + 1.480 / 28.28 + 0."""
    past, now = (0.0, 800.0, 0.0), (0.0, 100.0, 100.0)
    check = delays().judge(now, past, 0.05)
    assert check is not None and check.value == pytest.approx(0.5) and check.broken
    assert check.high == pytest.approx(1.480 * (1 / math.sqrt(200) + 1 / math.sqrt(800)), rel=1e-3)
    assert delays().judge(now, (0.0, 99.0, 0.0), 0.05) is None  # too little past


def test_arrival_may_grow_by_its_slack_and_fall_by_anything() -> None:
    """Before: 100 s on average."""
    arrival = Arrival("a", 900, "look")
    past = (1_000_000.0, 10.0)
    for seconds, expected in ((999.9, False), (1_000.1, True), (-5_000.0, False)):
        assert broken(arrival.judge((seconds * 1_000 * 50, 50.0), past, 1e-6)) is expected
    assert arrival.judge((1.0, 1.0), (), 1e-6) is None


def test_strain_is_one_at_the_bound() -> None:
    """0.07 expected, 0.04 to 0.11 healthy: 0.11 strains by 1, 0.025 by 1.5."""
    at = [Check("c", value, 0.07, 0.04, 0.11, 1, "", False).strain for value in (0.07, 0.11, 0.09, 0.025)]
    assert at == pytest.approx([0, 1, 0.5, 1.5])
    assert Check("c", 0.0, 0.07, None, 0.11, 1, "", False).strain == 0
    said = str(Check("c", 0.2, 0.07, None, 0.11, 1, "look", True))
    assert said == "c is 0.2, but must be at most 0.11; look"


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(checks(IntegritySettings())) == 10
