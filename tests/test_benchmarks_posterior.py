"""The posterior on a shop whose truth is known: calibrated, and nearer to it than the simpler estimates; and the yardsticks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from benchmarks.posterior_memory import many, memory_note
from benchmarks.posterior_peers import PEERS
from benchmarks.posterior_runs import Run, calibration_error, loss
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from headrace.world import Request
from reward.settings import PosteriorSettings
from schemas.events import Impression
from trainers.evaluation import paired_bootstrap


def test_yardsticks_agree_with_scikit_learn() -> None:
    """Log-loss, and the calibration error of bins of equal number, which is the mean gap of sklearn's curve."""
    rng = np.random.default_rng(0)
    p_N = rng.uniform(0.02, 0.9, 3_000)
    click_N = (rng.random(3_000) < p_N**1.3).astype(float)
    assert loss(click_N, p_N).mean() == pytest.approx(1e3 * log_loss(click_N, p_N))
    seen_B, said_B = calibration_curve(click_N, p_N, n_bins=15, strategy="quantile")
    assert calibration_error(click_N, p_N) == pytest.approx(np.abs(seen_B - said_B).mean(), abs=1e-3)


@pytest.mark.slow
def test_on_the_default_shop_it_is_calibrated_and_nearer_to_the_truth_than_every_peer() -> None:
    """Its whole history, predicted, then learned: ECE at most .01, and a 95 % interval by query above zero for each peer."""
    world = ShopWorld(ShopSettings(seed=7), 20_000 * 86_400_000)

    def truth(view: Impression) -> np.ndarray:
        request = Request(view.request_id, view.ts, view.user, view.session, view.query)
        place_N = np.array([item.position for item in view.items]) ** -world.settings.position_power
        return np.asarray(place_N * world.click_probability(request, [item.item for item in view.items]))

    run = Run(PosteriorSettings(), truth)
    run.whole(world.history())
    _, query_N, version_N, true_N, by = run.said.arrays()
    on = version_N > 0
    assert calibration_error(true_N[on], by["ours"][on]) <= 0.01
    for peer in PEERS:
        more = paired_bootstrap(loss(true_N, by[peer])[on], loss(true_N, by["ours"])[on], query_N[on].tolist())
        assert more.low > 0, peer


def test_memory_is_told_of_pairs_that_are_there() -> None:
    settings = PosteriorSettings()
    assert len(many(1_000, 20_000 * 86_400_000, settings).rows.starts) == 1_000
    told = memory_note(settings, quick=True)
    assert told.startswith("200,000 live pairs: 144 bytes") and "100,000 pairs merged" in told
