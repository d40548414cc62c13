"""The soft reward R - beta log pi - kappa log(pi / pi_ref): what it pushes, and where it comes to rest."""

from __future__ import annotations

import pytest
import torch

from trainers.objective import group_loss, soft_rewards
from trainers.settings import LossSettings
from trainers.targets import Targets

#: One prompt whose view has no target, three rollouts of one level.
NOTHING = Targets(torch.zeros(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))
SIDS_BGL = torch.arange(3).reshape(1, 3, 1)


def gradient(reward: list[float], logp: list[float], beta: float) -> torch.Tensor:
    """d loss / d logp of the three rollouts."""
    logp_BGL = torch.tensor(logp, dtype=torch.float64).reshape(1, 3, 1).requires_grad_()
    settings = LossSettings(learner="grpo", entropy=beta)
    loss, _ = group_loss(logp_BGL, SIDS_BGL, torch.tensor([reward], dtype=torch.float64), NOTHING, settings)
    (gradient_BGL,) = torch.autograd.grad(loss, logp_BGL)
    return gradient_BGL.flatten()


def test_at_equal_reward_the_unlikely_is_pushed_up() -> None:
    """Soft rewards 1 + 2 * (1, 2, 3) = 3, 5, 7 have z-scores -1.22, 0, 1.22 (population), and the loss is minus their mean."""
    got = gradient([1.0, 1.0, 1.0], [-1.0, -2.0, -3.0], beta=2.0)
    z = (2 / (8 / 3) ** 0.5) / 3  # (7 - 5) / std(3, 5, 7), over G = 3
    torch.testing.assert_close(got, torch.tensor([z, 0.0, -z], dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_policy_proportional_to_exp_reward_over_beta_is_at_rest() -> None:
    """R = beta log pi + constant makes a constant group: no gradient, exactly."""
    got = gradient([4.0, 2.0, 0.0], [-1.0, -2.0, -3.0], beta=2.0)
    assert got.abs().max() == 0


def test_without_entropy_the_paper_is_left_as_it_is() -> None:
    """Rewards 4, 2, 0: z-scores 1.22, 0, -1.22, whatever the log-probabilities."""
    got = gradient([4.0, 2.0, 0.0], [-1.0, -2.0, -3.0], beta=0.0)
    z = (2 / (8 / 3) ** 0.5) / 3
    torch.testing.assert_close(got, torch.tensor([-z, 0.0, z], dtype=torch.float64), atol=1e-5, rtol=0)


def test_the_warm_start_is_held_on_to() -> None:
    """At kappa = 2 and rewards 0 a policy that equals the warm start is at rest; what lost 1 nat is pushed by 2 a nat."""
    settings = LossSettings(kl=2.0, entropy=0.0)
    reward_BG, reference_BG = torch.zeros(1, 3), torch.tensor([[-1.0, -2.0, -3.0]])
    assert soft_rewards(reward_BG, reference_BG, reference_BG, settings).abs().max() == 0
    moved = soft_rewards(reward_BG, torch.tensor([[-2.0, -2.0, -1.0]]), reference_BG, settings)
    assert moved.tolist() == [[2.0, 0.0, -4.0]]


def test_entropy_and_kl_rest_where_they_say() -> None:
    """pi = (pi_ref^kappa exp(R))^(1 / (beta + kappa)) makes every soft reward the same number, log of the normaliser."""
    reward_BG = torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64)
    reference_BG = torch.log(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64))
    settings = LossSettings(entropy=1.5, kl=0.5)
    logp_BG = torch.log_softmax((0.5 * reference_BG + reward_BG) / 2.0, dim=-1)
    soft_BG = soft_rewards(reward_BG, logp_BG, reference_BG, settings)
    torch.testing.assert_close(soft_BG, soft_BG[:, :1].expand(-1, 3))
    assert (soft_rewards(reward_BG, logp_BG, reference_BG, LossSettings(entropy=1.5)).std() > 0.1).item()


def test_kl_without_a_reference_is_refused() -> None:
    """Rather than taken for no KL."""
    with pytest.raises(ValueError, match="warm start"):
        soft_rewards(torch.zeros(1, 3), torch.zeros(1, 3), None, LossSettings(kl=1.0))
