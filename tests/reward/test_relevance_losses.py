"""The losses and the network's gradient are those of autograd, and the ordinal one knows that tiers have an order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reward.relevance_losses import LOSSES, LossName, cross_entropy, ranked_probability, softmax
from reward.relevance_network import Network, fit_network, gradients
from reward.settings import RelevanceSettings


def oracle(name: LossName, logit_NT: torch.Tensor, tier_N: torch.Tensor) -> torch.Tensor:
    """The loss, written out for autograd."""
    p_NT = torch.softmax(logit_NT, dim=1)
    if name == "nominal":
        return -p_NT[torch.arange(len(tier_N)), tier_N].log().mean()
    total = torch.zeros((), dtype=torch.float64)
    for n in range(len(tier_N)):
        for border in range(3):
            said = p_NT[n, : border + 1].sum()
            total = total + (said - float(tier_N[n] <= border)) ** 2
    return total / len(tier_N)


def case(seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (count, 4)), rng.integers(0, 4, count).astype(np.int8)


@pytest.mark.parametrize("name", sorted(LOSSES))
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_a_loss_and_its_gradient_are_autograds(name: LossName, seed: int, count: int) -> None:
    logit_NT, tier_N = case(seed, count)
    leaf = torch.tensor(logit_NT, requires_grad=True)
    expected = oracle(name, leaf, torch.tensor(tier_N.astype(np.int64)))
    expected.backward()  # type: ignore[no-untyped-call]
    loss, gradient_NT = LOSSES[name](logit_NT, tier_N)
    assert loss == pytest.approx(expected.item(), rel=1e-12) and leaf.grad is not None
    np.testing.assert_allclose(gradient_NT, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_networks_gradient_is_that_of_finite_differences(name: LossName) -> None:
    """Every weight and bias of a small network in float64, moved by 1e-6 either way; the penalty's part is in it."""
    rng = np.random.default_rng(3)

    def array(*shape: int) -> Any:
        return rng.normal(0, 1, shape)

    net = Network(array(5), np.abs(array(5)) + 0.5, array(5, 7), array(7), array(7, 4), array(4))
    x_NF, tier_N = array(9, 5), rng.integers(0, 4, 9).astype(np.int8)
    _, gradient = gradients(net, x_NF, tier_N, name, penalty=0.3)
    for weights, found in zip(net.learned, gradient, strict=True):
        for place in np.ndindex(weights.shape):
            ends = []
            for step in (1e-6, -1e-6):
                weights[place] += step
                ends.append(gradients(net, x_NF, tier_N, name, penalty=0.3)[0])
                weights[place] -= step
            assert found[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_a_far_miss_costs_more_than_a_near_one_in_the_ordinal_loss_alone() -> None:
    """True tier 0. All on tier 3: three borders missed, 3. All on tier 1: one, 1. To cross-entropy both are log p[0]."""
    near_NT, far_NT = np.array([[0.0, 40, 0, 0]]), np.array([[0.0, 0, 0, 40]])
    tier_N = np.zeros(1, np.int8)
    assert ranked_probability(near_NT, tier_N)[0] == pytest.approx(1) and ranked_probability(far_NT, tier_N)[
        0
    ] == pytest.approx(3)
    assert cross_entropy(near_NT, tier_N)[0] == pytest.approx(cross_entropy(far_NT, tier_N)[0])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_least_in_the_mean_for_the_true_probabilities(name: LossName) -> None:
    """A proper score: with tiers in the shares .4 .3 .2 .1 no step away from log shares is better."""
    tier_N = np.repeat(np.arange(4), [4, 3, 2, 1]).astype(np.int8)
    best_T = np.log([0.4, 0.3, 0.2, 0.1])
    _, gradient_NT = LOSSES[name](np.tile(best_T, (10, 1)), tier_N)
    np.testing.assert_allclose(gradient_NT.sum(axis=0), 0, atol=1e-12)
    least = LOSSES[name](np.tile(best_T, (10, 1)), tier_N)[0]
    for step_T in np.random.default_rng(0).normal(0, 0.3, (20, 4)):
        assert LOSSES[name](np.tile(best_T + step_T, (10, 1)), tier_N)[0] > least


def test_training_finds_a_rule_and_is_the_same_again() -> None:
    """The tier is where x falls among -1, 0, 1. A feature that never moved in training moves later: not a tier changes much."""
    rng = np.random.default_rng(0)
    x_NF = np.stack([rng.normal(0, 1.5, 3_000), np.ones(3_000)], axis=1).astype(np.float32)
    tier_N = np.digitize(x_NF[:, 0], [-1, 0, 1]).astype(np.int8)
    settings = RelevanceSettings(hidden=16, epochs=200)
    net, again = (fit_network(x_NF[:2_000], tier_N[:2_000], x_NF[2_000:], tier_N[2_000:], settings, 1) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(net.learned, again.learned, strict=True))
    fresh_NF = np.stack([rng.normal(0, 1.5, 1_000), np.ones(1_000)], axis=1).astype(np.float32)
    expected_N = softmax(net.logits(fresh_NF)) @ np.arange(4)
    assert (np.rint(expected_N) == np.digitize(fresh_NF[:, 0], [-1, 0, 1])).mean() > 0.9
    fresh_NF[:, 1] = 0.9
    assert np.abs(softmax(net.logits(fresh_NF)) @ np.arange(4) - expected_N).mean() < 0.5
