"""The hierarchy by hand and against the best linear predictor, its strengths recovered from data, and the snapshot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import betabinom

from reward import posterior
from reward.calibration import Calibrator
from reward.counts import UNIT, Counts
from reward.examination import start
from reward.keys import keys
from reward.posterior import Step
from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.strength import Evidence, fit_strength
from schemas.posteriors import CountDelta

#: Age zero for every count below: bucket 0, read at its middle.
NOW = 21_600_000 // 2
TENS = PosteriorSettings(prior_ctr=0.1, prior_mass=10, strength_low=10, strength_high=10)


def one(query: str, item: str, shown: int, clicks: int) -> CountDelta:
    """``shown`` examined positions."""
    return CountDelta(query, item, 0, shown * UNIT, clicks, 0)


def snapshot_of(counts: Counts, settings: PosteriorSettings, prefixes: Prefixes | None = None) -> PosteriorSnapshot:
    return PosteriorSnapshot(PosteriorSnapshot.build(counts, NOW, settings, prefixes=prefixes))


def test_means_of_every_level_by_hand() -> None:
    """Strengths pinned to 10. a: 20 shown, 8 clicks under q, 20 shown, 2 clicks under r; prior .1 of 10 positions.

    Climbing: a pair counts 10 / 30 for its item: n = 40/3, x = 10/3. The item counts 10 / (10 + 40/3) = 3/7 for the whole:
    n = 40/7, x = 10/7. Coming down: whole (1 + 10/7) / (10 + 40/7) = 17/110; item (10 * 17/110 + 10/3) / (10 + 40/3) =
    23/110; (q, a) (10 * 23/110 + 8) / 30 = 37/110; (r, a) (10 * 23/110 + 2) / 30 = 15/110. Unseen item: the whole's.
    """
    snapshot = snapshot_of(Counts([one("q", "a", 20, 8), one("r", "a", 20, 2)]), TENS)
    assert snapshot.ctr("q", ["a", "zzz"]).mean_N == pytest.approx([37 / 110, 17 / 110])
    assert snapshot.ctr("r", ["a"]).mean_N == pytest.approx([15 / 110])
    new = snapshot.ctr("never asked", ["a"])
    m = 23 / 110
    assert new.mean_N == pytest.approx([m])
    # Beta variances: the pair's own; a new pair adds the spread of pairs to the item's own doubt.
    p = 37 / 110
    assert snapshot.ctr("q", ["a"]).variance_N == pytest.approx([p * (1 - p) / 31])
    assert new.variance_N == pytest.approx([m * (1 - m) / (10 + 40 / 3 + 1) + m * (1 - m) / 11])
    assert snapshot.ctr("q", ["a"]).ess_N.tolist() == [20.0] and new.ess_N.tolist() == [0.0]


def test_means_are_the_best_linear_prediction() -> None:
    """Against the whole joint covariance, solved at once: rates g + f + i + p with variances d/10 each, noise d/n, where
    the prior's mean and variance stand for g. The hierarchy gives the same to rounding, with prefixes and without."""
    rng = np.random.default_rng(1)
    queries, items = 6, 9
    shown_QI = rng.integers(0, 30, (queries, items))
    clicks_QI = rng.binomial(shown_QI, 0.3)
    told = [one(f"q{q}", f"i{i}", int(shown_QI[q, i]), int(clicks_QI[q, i])) for q, i in np.ndindex(queries, items)]
    sums = Counts(told).sums(NOW, TENS, start(TENS))
    family_I = np.arange(len(sums.item_I)) % 3
    pair_n, family_P = sums.n_P, family_I[sums.item_P]
    same_item = sums.item_P[:, None] == sums.item_P
    same_family = family_P[:, None] == family_P
    for levels, prefixes in ((2, None), (3, Step(family_I, 3))):
        rate_PP = np.full((len(pair_n), len(pair_n)), 1 / 10) + (same_item + np.eye(len(pair_n))) / 10
        rate_PP += same_family / 10 if levels == 3 else 0
        seen_PP = rate_PP + np.diag(1 / pair_n)
        expected_P = 0.1 + rate_PP @ np.linalg.solve(seen_PP, sums.clicks_P / pair_n - 0.1)
        assert posterior.fit(sums, TENS, prefixes).pairs.mean_C == pytest.approx(expected_P, abs=1e-9)


def test_prior_snapshot_knows_only_the_prior_and_yields_to_the_first_evidence() -> None:
    """Version 0: .05 everywhere. After 100 positions with 33 clicks on one item, a new one stands near .33 of the whole."""
    ctr = PosteriorSnapshot.prior(PosteriorSettings(prior_ctr=0.05)).ctr("q", ["a", "b"])
    assert ctr.mean_N == pytest.approx([0.05, 0.05]) and ctr.ess_N.tolist() == [0, 0]
    assert PosteriorSnapshot.prior(PosteriorSettings()).ctr("q", []).mean_N.shape == (0,)
    learned = snapshot_of(Counts([one(f"q{n}", f"i{n}", 10, 3 + n % 2) for n in range(20)]), PosteriorSettings())
    assert learned.ctr("new", ["new"]).mean_N == pytest.approx([0.35], abs=0.01)


def test_a_new_item_stands_on_its_prefix_and_a_stranger_on_the_whole() -> None:
    """Two families of identifiers: 1.* is clicked at .5, 2.* at .1. Items c and f were never shown."""
    sids = np.array([[1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]], np.int32)
    prefixes = Prefixes.of("v1", list("abcdef"), sids, 1)
    told = [one(f"q{n}", item, 10, clicks) for n in range(40) for item, clicks in zip("abde", (5, 5, 1, 1), strict=True)]
    snapshot = snapshot_of(Counts(told), PosteriorSettings(), prefixes)
    c, f, stranger = snapshot.ctr("q", ["c", "f", "stranger"]).mean_N
    assert c > 0.4 and f < 0.2 and f < stranger < c
    assert snapshot.identifiers == "v1" and set(snapshot.strengths) == {"pair", "item", "prefix"}
    assert snapshot.ctr("q0", ["a"]).ess_N.tolist() == [10.0] and snapshot.ctr("q", ["c"]).ess_N.tolist() == [0.0]


def test_prefixes_are_found_by_item_and_none_is_an_extra_one() -> None:
    prefixes = Prefixes.of("v", ["x", "y", "z"], np.array([[3, 1, 9], [3, 2, 9], [3, 1, 8]], np.int32), 2)
    x, y, z, other = prefixes.find(keys(["x", "y", "z", "other"])).tolist()
    assert x == z != y and other == prefixes.size == 2
    assert Prefixes.of("v", [], np.zeros((0, 2), np.int32), 2).find(keys(["x"])).tolist() == [0]


@pytest.mark.parametrize("strength", [5.0, 40.0])
@pytest.mark.parametrize("positions", [[1] * 40, list(range(1, 11)) * 12])
def test_strength_of_a_beta_is_recovered(strength: float, positions: list[int]) -> None:
    """3,000 children drawn from Beta(s m, s (1 - m)), shown at the given positions: the fit finds s within 15 %."""
    rng = np.random.default_rng(3)
    mean, children = 0.15, 3_000
    rate_C = rng.beta(strength * mean, strength * (1 - mean), children)
    theta_K = np.array(positions) ** -0.85
    clicks_C = (rng.random((children, len(positions))) < rate_C[:, None] * theta_K).sum(axis=1).astype(float)
    full_C, n, b = np.ones(children), float(theta_K.sum()), float((theta_K**2).sum())
    evidence = Evidence(n * full_C, clicks_C, n * full_C, b * full_C)
    assert fit_strength(evidence, mean * full_C, 0 * full_C, 10, PosteriorSettings()) == pytest.approx(strength, rel=0.15)


def test_strength_agrees_with_maximum_likelihood() -> None:
    """Children of unequal size, all at position 1: within 10 % of scipy's beta-binomial likelihood at its best."""
    rng = np.random.default_rng(4)
    shown_C = rng.geometric(0.1, 4_000)
    clicks_C = rng.binomial(shown_C, rng.beta(8 * 0.3, 8 * 0.7, 4_000))

    def cost(log_s: float) -> float:
        s = np.exp(log_s)
        return -float(betabinom.logpmf(clicks_C, shown_C, 0.3 * s, 0.7 * s).sum())

    best = float(np.exp(minimize_scalar(cost, bounds=(0, 5), method="bounded").x))
    n_C, full_C = shown_C.astype(float), np.ones(4_000)
    evidence = Evidence(n_C, clicks_C.astype(float), n_C, n_C)
    assert fit_strength(evidence, 0.3 * full_C, 0 * full_C, 10, PosteriorSettings()) == pytest.approx(best, rel=0.1)


def test_children_that_differ_only_by_chance_are_strong_and_no_data_keeps_the_prior() -> None:
    """500 children, each with exactly its expected 3 of 30 clicks: less spread than chance, the bound's strength. Children
    shown once tell nothing: 10."""
    full_C, settings = np.ones(500), PosteriorSettings(strength_high=500)
    alike = Evidence(30 * full_C, 3 * full_C, 30 * full_C, 30 * full_C)
    assert fit_strength(alike, 0.1 * full_C, 0 * full_C, 10, settings) == pytest.approx(500)
    once = Evidence(full_C, 0 * full_C, full_C, full_C)
    assert fit_strength(once, 0.1 * full_C, 0 * full_C, 99, settings) == pytest.approx(10)


def test_the_posterior_predicts_better_than_raw_ratios_and_one_rate_for_all() -> None:
    """40 queries by 10 items, rates from a hierarchy, 12 views each: nearest to the truth in log-loss, and calibrated.

    The true rates are known, so the excess log-loss is exact: the mean divergence of prediction from truth.
    """
    rng = np.random.default_rng(5)
    item_I = rng.beta(2, 12, 10)
    rate_QI = np.clip(rng.beta(8 * item_I, 8 * (1 - item_I), (40, 10)), 1e-3, 1 - 1e-3)
    counts, clicks_QI, mass_QI = Counts(), np.zeros((40, 10)), np.zeros((40, 10))
    for q in range(40):
        for i in range(10):
            for position in rng.integers(1, 6, 12):
                theta = int(position) ** -0.85
                click = int(rng.random() < rate_QI[q, i] * theta)
                counts.add([CountDelta(f"q{q}", f"i{i}", 0, UNIT, click, 0, 0, int(position))])
                clicks_QI[q, i] += click
                mass_QI[q, i] += theta
    snapshot = PosteriorSnapshot(PosteriorSnapshot.build(counts, NOW, PosteriorSettings()))
    ours_QI = np.array([snapshot.ctr(f"q{q}", [f"i{i}" for i in range(10)]).mean_N for q in range(40)])
    raw_QI = np.clip(clicks_QI / mass_QI, 1e-3, 1 - 1e-3)
    one_rate_QI = np.full((40, 10), clicks_QI.sum() / mass_QI.sum())

    def excess(p: np.ndarray) -> float:
        return float((rate_QI * np.log(rate_QI / p) + (1 - rate_QI) * np.log((1 - rate_QI) / (1 - p))).mean())

    assert excess(ours_QI) < 0.7 * excess(one_rate_QI) and excess(ours_QI) < 0.5 * excess(raw_QI)
    by_size = np.argsort(ours_QI, axis=None).reshape(5, 80)
    for bin_ in by_size:  # predicted and true mean agree in every fifth
        assert ours_QI.ravel()[bin_].mean() == pytest.approx(rate_QI.ravel()[bin_].mean(), abs=0.04)


def test_calibrator_travels_in_the_snapshot() -> None:
    """A calibrator that halves everything (a map to .4, a corrector of 1.25): .1 becomes .05, its variance a quarter, and the version is told."""
    half = Calibrator(7, np.array([0.0, 1.0]), np.array([0.0, 0.4]), 1.25)
    settings = PosteriorSettings(prior_ctr=0.1)
    plain = PosteriorSnapshot(PosteriorSnapshot.build(Counts(), NOW, settings))
    halved = PosteriorSnapshot(PosteriorSnapshot.build(Counts(), NOW, settings, half))
    assert halved.ctr("q", ["a"]).mean_N == pytest.approx([0.05])
    assert halved.ctr("q", ["a"]).variance_N == pytest.approx(plain.ctr("q", ["a"]).variance_N / 4)
    assert halved.raw("q", ["a"]).mean_N == pytest.approx([0.1]) and halved.calibrator.version == 7
