"""The relevance network: features of a pair through one hidden layer to the logits of the tiers. Trained and run with numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reward.judgments import TIERS
from reward.relevance_losses import LOSSES, LossName, Tier
from reward.settings import RelevanceSettings

BATCH: Final = 256
LEARNING_RATE: Final = 1e-3
#: Adam's decay of the mean and of the square of the gradient, and what keeps its division finite.
DECAYS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
#: Least standard deviation that a feature (all are of order 1) is divided by: one that hardly moved in training must not
#: drown the others when it moves later.
LEAST_SCALE: Final = 0.05
#: Epochs without a better loss on the tuning share, after which training ends.
PATIENCE: Final = 6

Arrays = NDArray[np.float32]
Floats = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """x_NF, standardised, through H rectified units to T logits."""

    mean_F: Arrays
    scale_F: Arrays
    weight_FH: Arrays
    bias_H: Arrays
    weight_HT: Arrays
    bias_T: Arrays

    def logits(self, x_NF: Floats) -> Floats:
        """logit_NT, not calibrated."""
        hidden_NH = np.maximum((x_NF - self.mean_F) / self.scale_F @ self.weight_FH + self.bias_H, 0)
        return hidden_NH @ self.weight_HT + self.bias_T

    @property
    def learned(self) -> tuple[Floats, Floats, Floats, Floats]:
        """What training changes."""
        return self.weight_FH, self.bias_H, self.weight_HT, self.bias_T


def gradients(net: Network, x_NF: Floats, tier_N: Tier, loss: LossName, penalty: float) -> tuple[float, list[Floats]]:
    """The objective, mean loss + penalty / (2 N) * squared weights, and its gradient by `Network.learned`, biases free."""
    z_NF = (x_NF - net.mean_F) / net.scale_F
    open_NH = z_NF @ net.weight_FH + net.bias_H
    hidden_NH = np.maximum(open_NH, 0)
    value, by_logit_NT = LOSSES[loss](hidden_NH @ net.weight_HT + net.bias_T, tier_N)
    by_open_NH = by_logit_NT @ net.weight_HT.T * (open_NH > 0)
    share = penalty / len(tier_N)
    squares = float((net.weight_FH**2).sum() + (net.weight_HT**2).sum())
    return value + share / 2 * squares, [
        z_NF.T @ by_open_NH + share * net.weight_FH,
        by_open_NH.sum(axis=0),
        hidden_NH.T @ by_logit_NT + share * net.weight_HT,
        by_logit_NT.sum(axis=0),
    ]


def fit_network(
    x_NF: Arrays, tier_N: Tier, tune_x_MF: Arrays, tune_tier_M: Tier, settings: RelevanceSettings, seed: int
) -> Network:
    """Adam on N pairs until the loss on M others gets no better; the best network seen. Deterministic given ``seed``."""
    rng = np.random.default_rng(seed)
    net = _start(x_NF, settings.hidden, rng)
    means, squares = ([np.zeros_like(a) for a in net.learned] for _ in range(2))
    best, best_loss, since, step = _copy(net), np.inf, 0, 0
    for _ in range(settings.epochs):
        order_N = rng.permutation(len(x_NF))
        for start in range(0, len(order_N), BATCH):
            rows = order_N[start : start + BATCH]
            _, gradient = gradients(net, x_NF[rows], tier_N[rows], settings.loss, settings.penalty)
            step += 1
            _adam(net, gradient, means, squares, step)
        loss, _ = LOSSES[settings.loss](net.logits(tune_x_MF), tune_tier_M)
        if loss < best_loss:
            best, best_loss, since = _copy(net), loss, 0
        else:
            since += 1
            if since == PATIENCE:
                break
    return best


def _adam(net: Network, gradient: list[Floats], means: list[Floats], squares: list[Floats], step: int) -> None:
    """One step in place (Kingma & Ba 2015, with the bias correction in the learning rate)."""
    slow, slower = DECAYS
    rate = LEARNING_RATE * math.sqrt(1 - slower**step) / (1 - slow**step)
    for array, g, mean, square in zip(net.learned, gradient, means, squares, strict=True):
        mean += (1 - slow) * (g - mean)
        square += (1 - slower) * (g * g - square)
        array -= rate * mean / (np.sqrt(square) + EPSILON)


def _start(x_NF: Arrays, hidden: int, rng: np.random.Generator) -> Network:
    """Uniform weights of the variance that Glorot and Bengio (2010) give them."""

    def weights(rows: int, columns: int) -> Arrays:
        bound = np.sqrt(6 / (rows + columns))
        return rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)

    width = x_NF.shape[1]
    return Network(
        mean_F=x_NF.mean(axis=0),
        scale_F=np.maximum(x_NF.std(axis=0), np.float32(LEAST_SCALE)),
        weight_FH=weights(width, hidden),
        bias_H=np.zeros(hidden, np.float32),
        weight_HT=weights(hidden, TIERS),
        bias_T=np.zeros(TIERS, np.float32),
    )


def _copy(net: Network) -> Network:
    return Network(**{f.name: getattr(net, f.name).copy() for f in fields(net)})
