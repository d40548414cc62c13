"""The losses: gradients by finite differences, the ratio, the SFT term, guards."""

from __future__ import annotations

import math

import pytest
import torch

from schemas.errors import LearningError
from trainers.losses import focal, grpo_loss, on_policy_ratio, sft_loss, tpma_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_on_policy_ratio_is_one_with_the_gradient_of_logp() -> None:
    """A ratio of the recomputed to the rollout's log-prob would not be exactly 1; this one is, and d ratio = d logp."""
    logp = draw(2, 3, 5).requires_grad_()
    ratio = on_policy_ratio(logp)
    assert torch.equal(ratio, torch.ones_like(ratio))
    ratio.sum().backward()
    assert torch.equal(logp.grad, torch.ones_like(ratio))


def test_tpma_gradient_is_minus_the_weight_of_each_token() -> None:
    """d loss / d logp = -g (A_pos) - A_item, over B G L, for the ungated item advantage."""
    logp, position, item, gate = (
        draw(2, 3, 5).requires_grad_(),
        draw(2, 3, 5, seed=1),
        draw(2, 3, seed=2),
        draw(2, 3, 5, seed=3),
    )
    tpma_loss(logp, position, item, gate, w_item=0.7, w_position=0.3, gate_item_advantage=False)[0].backward()
    torch.testing.assert_close(logp.grad, -(gate * 0.3 * position + 0.7 * item[..., None]) / 30)


def test_gradients_by_finite_differences() -> None:
    """Off-policy GRPO and the SFT term are plain functions of their inputs, so gradcheck holds them.

    On-policy ratios are 1 by construction whatever logp is, so the numeric derivative does not exist there; those
    gradients are held in closed form above.
    """
    old, item = draw(2, 3, 5, seed=4) * 0.1, draw(2, 3, seed=5)
    assert torch.autograd.gradcheck(lambda x: grpo_loss(x, item, old)[0], (draw(2, 3, 5, seed=6).mul(0.1).requires_grad_(),))
    has = torch.tensor([True, False])
    assert torch.autograd.gradcheck(lambda x: sft_loss(x, has)[0], (draw(2, 5).abs().requires_grad_(),))


def test_tpma_gradient_matches_the_explicit_ratio() -> None:
    """With the rollout's log-prob as a constant, mean(exp(logp - const) A) has a numeric derivative: the same gradient."""
    logp, position, item, gate = draw(2, 3, 5), draw(2, 3, 5, seed=1), draw(2, 3, seed=2), draw(2, 3, 5, seed=3).abs()
    ours = logp.clone().requires_grad_()
    tpma_loss(ours, position, item, gate)[0].backward()
    step, numeric = 1e-6, torch.zeros_like(logp)
    for at in range(logp.numel()):
        shift = torch.zeros(logp.numel(), dtype=torch.float64)
        shift[at] = step
        values = [-(torch.exp(s * shift.view_as(logp)) * gate * (position + item[..., None])).mean() for s in (1, -1)]
        numeric.view(-1)[at] = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(ours.grad, numeric, atol=1e-9, rtol=1e-6)


def test_sft_counts_prompts_without_a_target_as_zero() -> None:
    """Cross-entropies (1..5 -> 3) and one prompt without target: 3 / 2; the metric is per prompt that has one."""
    ce = torch.tensor([[1.0, 2, 3, 4, 5], [9.0, 9, 9, 9, 9]], requires_grad=True)
    loss, metrics = sft_loss(ce, torch.tensor([True, False]))
    assert loss.item() == 1.5
    assert metrics["sft_ce"].item() == 3
    assert metrics["target_share"].item() == 0.5
    loss.backward()
    assert ce.grad is not None
    assert ce.grad[1].abs().sum() == 0


def test_sft_without_any_target_is_zero() -> None:
    """No division by zero."""
    loss, metrics = sft_loss(torch.ones(2, 5, requires_grad=True), torch.zeros(2, dtype=torch.bool))
    assert loss.item() == 0
    assert "sft_ce" not in metrics  # nobody knows it


def test_a_loss_that_is_not_finite_stops_the_step() -> None:
    """NaN must not reach the optimiser."""
    bad = torch.full((1, 2, 5), float("nan"), requires_grad=True)
    with pytest.raises(LearningError, match="TPMA loss is nan"):
        tpma_loss(bad, torch.ones(1, 2, 5), torch.ones(1, 2), torch.ones(1, 2, 5))
    with pytest.raises(LearningError, match="GRPO loss"):
        grpo_loss(bad, torch.ones(1, 2))
    with pytest.raises(LearningError, match="SFT loss"):
        sft_loss(bad[0], torch.ones(2, dtype=torch.bool))


def test_focal_by_hand() -> None:
    """-2 (1 - p)^3 log p: at p = 1/2 that is log 2 / 4, at p = 1 nothing, and what is unlikely keeps nearly all of 2 ce."""
    ce = torch.tensor([[math.log(2), 0.0, -math.log(1e-4)]], dtype=torch.float64, requires_grad=True)
    expected = [math.log(2) / 4, 0.0, -2 * (1 - 1e-4) ** 3 * math.log(1e-4)]
    assert focal(ce)[0].tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(focal, (ce,))
    loss, metrics = sft_loss(ce, torch.tensor([True]), "focal")
    assert loss.item() == pytest.approx(sum(expected) / 3)
    assert metrics["sft_ce"].item() == pytest.approx(ce.mean().item())  # told in nats, whatever is minimised
