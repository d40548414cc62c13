"""The hierarchy by hand, its strengths recovered from data, and the snapshot that carries it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reward import posterior
from reward.calibration import Calibrator
from reward.counts import UNIT, Counts, examination
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.errors import Corrupt, Unavailable
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.store import Store

DAY = 86_400_000
#: Age zero for every count below: bucket 0, read at its middle.
NOW = 21_600_000 // 2


def one(query: str, item: str, shown: int, clicks: int) -> CountDelta:
    """``shown`` times at position 1."""
    return CountDelta(query, item, 0, shown * UNIT, clicks, 0, shown * UNIT)


def test_means_of_every_level_by_hand() -> None:
    """Strengths pinned to 10. a: 20 shown, 8 clicks under q, 20 shown, 2 clicks under r; prior .1 with strength 10.

    Whole: (1 + 10) / 50 = .22. Item a alone, so its parent is the bare prior .1: (10 * .1 + 10) / 50 = .22.
    (q, a): parent leaves q out, (10 * .1 + 2) / 30 = .1; mean (10 * .1 + 8) / 30 = .3.
    (r, a): parent (1 + 8) / 30 = .3; mean (10 * .3 + 2) / 30 = 1/6. Unseen item: .22.
    """
    settings = PosteriorSettings(prior_ctr=0.1, prior_strength=10, strength_low=10, strength_high=10)
    counts = Counts([one("q", "a", 20, 8), one("r", "a", 20, 2)])
    snapshot = PosteriorSnapshot(PosteriorSnapshot.build(counts, NOW, settings))
    assert snapshot.ctr("q", ["a", "zzz"]).mean_N.tolist() == pytest.approx([0.3, 0.22])
    assert snapshot.ctr("r", ["a"]).mean_N.tolist() == pytest.approx([1 / 6])
    new = snapshot.ctr("never asked", ["a"])
    assert new.mean_N.tolist() == pytest.approx([0.22])
    # Beta variances: (q, a) .3 * .7 / (10 + 20 + 1); a new pair adds the spread of pairs to the item's own doubt.
    assert snapshot.ctr("q", ["a"]).variance_N.tolist() == pytest.approx([0.21 / 31])
    assert new.variance_N.tolist() == pytest.approx([0.22 * 0.78 / 51 + 0.22 * 0.78 / 11])
    assert snapshot.ctr("q", ["a"]).ess_N.tolist() == [20.0] and new.ess_N.tolist() == [0.0]


def test_prior_snapshot_knows_only_the_prior() -> None:
    """Version 0: mean .05 everywhere, no evidence."""
    ctr = PosteriorSnapshot.prior(PosteriorSettings(prior_ctr=0.05)).ctr("q", ["a", "b"])
    assert ctr.mean_N.tolist() == pytest.approx([0.05, 0.05]) and ctr.ess_N.tolist() == [0, 0]
    assert PosteriorSnapshot.prior(PosteriorSettings()).ctr("q", []).mean_N.shape == (0,)


@pytest.mark.parametrize("strength", [5.0, 40.0])
@pytest.mark.parametrize("positions", [[1] * 40, list(range(1, 11)) * 12])
def test_strength_of_a_beta_is_recovered(strength: float, positions: list[int]) -> None:
    """3,000 children drawn from Beta(s m, s (1 - m)), shown at the given positions: the fit finds s within 20 %."""
    rng = np.random.default_rng(3)
    mean, children = 0.15, 3_000
    rate_C = rng.beta(strength * mean, strength * (1 - mean), children)
    mass = np.array([examination(k, 0.85) for k in positions]) / UNIT
    clicks_C = (rng.random((children, len(positions))) < rate_C[:, None] * mass[:, 0]).sum(axis=1).astype(float)
    n, s2 = float(mass[:, 0].sum()), float(mass[:, 1].sum())
    full = np.full(children, 1.0)
    found = posterior.fit_strength(n * full, n * full, s2 * full, clicks_C, mean * full, 0 * full)
    assert found == pytest.approx(strength, rel=0.2)


def test_children_that_differ_only_by_chance_get_an_infinite_strength_and_no_data_none() -> None:
    """10 children, each with exactly its expected 3 of 30 clicks: less spread than chance."""
    full = np.full(10, 1.0)
    assert posterior.fit_strength(30 * full, 30 * full, 30 * full, 3 * full, 0.1 * full, 0 * full) == np.inf
    assert posterior.fit_strength(full, full, full, 0 * full, 0.1 * full, 0 * full) is None  # one view each tells nothing


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
                mass, square = examination(int(position), 0.85)
                click = int(rng.random() < rate_QI[q, i] * mass / UNIT)
                counts.add([CountDelta(f"q{q}", f"i{i}", 0, mass, click, 0, square)])
                clicks_QI[q, i] += click
                mass_QI[q, i] += mass / UNIT
    snapshot = PosteriorSnapshot(PosteriorSnapshot.build(counts, NOW, PosteriorSettings()))
    ours_QI = np.array([snapshot.ctr(f"q{q}", [f"i{i}" for i in range(10)]).mean_N for q in range(40)])
    raw_QI = np.clip(clicks_QI / mass_QI, 1e-3, 1 - 1e-3)
    one_rate_QI = np.full((40, 10), clicks_QI.sum() / mass_QI.sum())

    def excess(p: np.ndarray) -> float:
        return float((rate_QI * np.log(rate_QI / p) + (1 - rate_QI) * np.log((1 - rate_QI) / (1 - p))).mean())

    assert excess(ours_QI) < 0.7 * excess(one_rate_QI) and excess(ours_QI) < 0.5 * excess(raw_QI)
    by_size = np.argsort(ours_QI, axis=None).reshape(5, 80)
    for bin_ in by_size:  # predicted and true mean agree in every fifth
        assert ours_QI.ravel()[bin_].mean() == pytest.approx(rate_QI.ravel()[bin_].mean(), abs=0.03)


def test_calibrator_travels_in_the_snapshot() -> None:
    """A calibrator that halves everything: .1 becomes .05, its variance a quarter, and the version is told."""
    half = Calibrator(7, np.array([0.0, 1.0]), np.array([0.0, 0.5]))
    settings = PosteriorSettings(prior_ctr=0.1)
    plain = PosteriorSnapshot(PosteriorSnapshot.build(Counts(), NOW, settings))
    halved = PosteriorSnapshot(PosteriorSnapshot.build(Counts(), NOW, settings, half))
    assert halved.ctr("q", ["a"]).mean_N == pytest.approx([0.05])
    assert halved.ctr("q", ["a"]).variance_N == pytest.approx(plain.ctr("q", ["a"]).variance_N / 4)
    assert halved.raw("q", ["a"]).mean_N == pytest.approx([0.1]) and halved.calibrator.version == 7


def test_a_cut_or_foreign_file_is_corrupt_and_a_missing_one_unavailable(tmp_path: Path) -> None:
    store, settings = Store(str(tmp_path)), PosteriorSettings()
    data = PosteriorSnapshot.build(Counts([one("q", "a", 5, 1)]), NOW, settings)
    checksum = store.write("posteriors/1", data)
    pointer = SnapshotPointer(1, NOW, "posteriors/1", checksum, 0, 1)
    assert PosteriorSnapshot.read(store, pointer).pairs == 1
    for cut in (4, 20, len(data) - 9):
        with pytest.raises(Corrupt):
            PosteriorSnapshot(data[:cut])
    with pytest.raises(Corrupt, match="sha256"):
        PosteriorSnapshot.load(store, "posteriors/1", "0" * 64)
    with pytest.raises(Unavailable):
        PosteriorSnapshot.load(store, "posteriors/2", "")
