"""The scorer's model: a small network from features to tier probabilities. Trained with scikit-learn, run with numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.judgments import TIERS
from reward.settings import RelevanceSettings

BATCH: Final = 256
LEARNING_RATE: Final = 1e-3
#: Epochs without a better log-loss on the tuning share, after which training ends.
PATIENCE: Final = 6

Floats = NDArray[np.float64]
Arrays = NDArray[np.float32]
Tier = NDArray[np.int8]


@dataclass(frozen=True)
class TierModel:
    """x_NF, standardised, through one hidden layer of H units to 4 probabilities; a tier by thresholds on their mean.

    ``temperature`` calibrates the probabilities on judgments that the network was not fitted on; ``threshold_3`` are
    the borders between tiers on the expected tier, chosen there for the highest quadratic kappa.
    """

    mean_F: Arrays
    scale_F: Arrays
    weight_FH: Arrays
    bias_H: Arrays
    weight_HT: Arrays
    bias_T: Arrays
    temperature: float
    threshold_3: Floats

    def probabilities(self, x_NF: Arrays) -> Floats:
        """p_NT: calibrated probability of each tier."""
        hidden_NH = np.maximum(0.0, (x_NF - self.mean_F) / self.scale_F @ self.weight_FH + self.bias_H)
        return _softmax((hidden_NH @ self.weight_HT + self.bias_T).astype(np.float64) / self.temperature)

    def tiers(self, x_NF: Arrays) -> tuple[Tier, NDArray[np.float32]]:
        """(tier_N, probability of that tier)."""
        p_NT = self.probabilities(x_NF)
        tier_N = np.digitize(p_NT @ np.arange(TIERS), self.threshold_3).astype(np.int8)
        return tier_N, p_NT[np.arange(len(tier_N)), tier_N].astype(np.float32)


def fit(
    x_NF: Arrays, tier_N: Tier, tune_x_MF: Arrays, tune_tier_M: Tier, settings: RelevanceSettings, seed: int
) -> TierModel:
    """Fit on N judgments; M others say when to stop, how to calibrate and where the borders are."""
    from sklearn.neural_network import MLPClassifier

    mean_F = x_NF.mean(axis=0)
    scale_F = np.maximum(x_NF.std(axis=0), 1e-6)
    network = MLPClassifier(
        (settings.hidden,), alpha=settings.penalty, batch_size=min(BATCH, len(x_NF)), learning_rate_init=LEARNING_RATE,
        random_state=seed,
    )  # fmt: skip
    z_NF, tune_z_MF = (x_NF - mean_F) / scale_F, (tune_x_MF - mean_F) / scale_F
    best, best_loss, since = None, np.inf, 0
    for _ in range(settings.epochs):
        network.partial_fit(z_NF, tier_N, classes=np.arange(TIERS))
        loss = log_loss(network.predict_proba(tune_z_MF), tune_tier_M)
        if loss < best_loss:
            best, best_loss, since = [c.astype(np.float32) for c in (*network.coefs_, *network.intercepts_)], loss, 0
        else:
            since += 1
            if since == PATIENCE:
                break
    if best is None:
        raise AssertionError("a finite log-loss is below infinity")
    first_FH, second_HT, first_H, second_T = best
    hidden_MH = np.maximum(0.0, tune_z_MF @ first_FH + first_H)
    logit_MT = (hidden_MH @ second_HT + second_T).astype(np.float64)
    temperature = best_temperature(logit_MT, tune_tier_M)
    expected_M = _softmax(logit_MT / temperature) @ np.arange(TIERS)
    threshold_3 = best_thresholds(expected_M, tune_tier_M)
    return TierModel(mean_F, scale_F, first_FH, first_H, second_HT, second_T, temperature, threshold_3)


def best_temperature(logit_NT: Floats, tier_N: Tier) -> float:
    """The temperature of least log-loss, between 1/4 and 4."""
    choices = np.exp2(np.linspace(-2, 2, 81))
    return float(min(choices, key=lambda t: log_loss(_softmax(logit_NT / t), tier_N)))


def best_thresholds(score_N: ArrayLike, tier_N: Tier) -> Floats:
    """Three ascending borders on a score that give the highest quadratic kappa: coordinate ascent from equal shares."""
    score = np.asarray(score_N, np.float64)
    grid = np.unique(np.quantile(score, np.linspace(0.005, 0.995, 100)))
    share_3 = np.cumsum(np.bincount(tier_N, minlength=TIERS))[:-1] / max(1, len(tier_N))
    border_3 = np.sort(np.quantile(score, share_3))
    best = quadratic_kappa(np.digitize(score, border_3), tier_N)
    for _ in range(4):
        before = best
        for k in range(3):
            low, high = border_3[k - 1] if k else -np.inf, border_3[k + 1] if k < 2 else np.inf
            for border in grid[(grid >= low) & (grid <= high)]:
                tried_3 = border_3.copy()
                tried_3[k] = border
                kappa = quadratic_kappa(np.digitize(score, tried_3), tier_N)
                if kappa > best:
                    best, border_3 = kappa, tried_3
        if best == before:
            break
    return border_3


def confusion(predicted_N: ArrayLike, tier_N: ArrayLike) -> NDArray[np.int64]:
    """Counts [true tier, predicted tier]."""
    table_TT = np.zeros((TIERS, TIERS), np.int64)
    np.add.at(table_TT, (np.asarray(tier_N, np.int64), np.asarray(predicted_N, np.int64)), 1)
    return table_TT


def quadratic_kappa(predicted_N: ArrayLike, tier_N: ArrayLike) -> float:
    """Cohen's kappa with squared distances as weights: 1 for agreement, 0 for chance; 0 when either side is constant."""
    observed_TT = confusion(predicted_N, tier_N).astype(np.float64)
    distance_TT = (np.arange(TIERS)[:, None] - np.arange(TIERS)) ** 2
    chance_TT = np.outer(observed_TT.sum(axis=1), observed_TT.sum(axis=0)) / max(1.0, observed_TT.sum())
    expected = float((distance_TT * chance_TT).sum())
    return 1.0 - float((distance_TT * observed_TT).sum()) / expected if expected > 0 else 0.0


def log_loss(p_NT: Floats, tier_N: Tier) -> float:
    """Mean negative log-probability of the true tier (nats)."""
    return float(-np.log(np.clip(p_NT[np.arange(len(tier_N)), tier_N], 1e-12, 1.0)).mean())


def _softmax(logit_NT: Floats) -> Floats:
    raised_NT = np.exp(logit_NT - logit_NT.max(axis=1, keepdims=True))
    p_NT: Floats = raised_NT / raised_NT.sum(axis=1, keepdims=True)
    return p_NT
