"""List-wise DPO against its formula in plain loops, its sign, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import LearningError
from tests.trainers import oracle_baselines as oracle
from tests.trainers.group_toys import gradient
from tests.trainers.oracle_baselines import Group
from trainers.losses import dpo_loss


def tensors(*values: list[Group]) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@st.composite
def groups(draw: st.DrawFn) -> list[list[Group]]:
    """Log-probabilities, reference's and rewards of 1 to 3 prompts with groups of 2 to 6; rewards on a grid, so ties occur."""
    prompts, size = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    row = st.lists(st.floats(-20, 0), min_size=size, max_size=size)
    grid = st.lists(st.integers(0, 3).map(float), min_size=size, max_size=size)
    return [[draw(kind) for _ in range(prompts)] for kind in (row, row, grid)]


@given(groups(), st.sampled_from([0.05, 0.1, 1.0]))
@settings(max_examples=80, deadline=None)
def test_the_loss_is_the_formula(drawn: list[list[Group]], beta: float) -> None:
    """The value, and the derivative by every log-probability on its own, are those of the loops, whatever ties there are.

    torch's softplus is a straight line above 20, and there off by as much as exp(-20) = 2.1e-9, in its slope too.
    """
    logp, reference, reward = tensors(*drawn)
    logp.requires_grad_()
    loss, _ = dpo_loss(logp, reference, reward, beta)
    _, references, rewards = drawn
    expected = oracle.dpo(logp, references, rewards, beta)
    assert loss.item() == pytest.approx(expected.item(), abs=3e-9)
    torch.testing.assert_close(gradient(loss, logp), gradient(expected, logp), rtol=1e-9, atol=3e-9)


def test_gradient_by_finite_differences() -> None:
    """Reward order is fixed, so the loss is smooth in the log-probabilities."""
    reference, reward = tensors([[-3.0, -2.0, -4.0, -3.5]], [[1.0, 4.0, 1.0, 0.0]])
    logp = torch.tensor([[-2.0, -3.0, -4.5, -3.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dpo_loss(x, reference, reward, 0.7)[0], (logp,))


def test_the_pair_in_the_wrong_order_learns_most() -> None:
    """[trap] With V1's printed sign the violated pair has the smaller gradient. Ours raises the winner, and more so where the
    policy prefers the loser: for two rollouts the slope is -beta sigmoid(beta (d_k - d_w))."""
    reference, reward = tensors([[0.0, 0.0]], [[1.0, 0.0]])
    slopes = []
    for lead in (3.0, -3.0):  # the winner ahead, and behind
        logp = torch.tensor([[lead, 0.0]], dtype=torch.float64, requires_grad=True)
        dpo_loss(logp, reference, reward, 1.0)[0].backward()
        assert logp.grad is not None
        slopes.append(logp.grad[0, 0].item())
        assert slopes[-1] == pytest.approx(-1 / (1 + math.exp(lead)))
    assert slopes[1] < 10 * slopes[0] < 0


def test_equal_rewards_prefer_nothing() -> None:
    """No loser: loss and gradient are exactly zero, also beside a group that has one."""
    logp, reference, reward = tensors([[-1.0, -2.0], [-1.0, -2.0]], [[-1.5, -1.5]] * 2, [[2.0, 2.0], [0.0, 1.0]])
    logp.requires_grad_()
    loss, metrics = dpo_loss(logp, reference, reward)
    loss.backward()
    assert logp.grad is not None
    assert logp.grad[0].tolist() == [0, 0] and logp.grad[1].abs().min() > 0
    assert metrics["preferring_share"] == 0.5 and metrics["pairs_in_order"] == 0


def test_order_of_rollouts_and_micro_batches_change_nothing() -> None:
    """Reversed, and prompt by prompt."""
    drawn = torch.Generator().manual_seed(1)
    logp, reference, reward = (torch.randn(4, 6, dtype=torch.float64, generator=drawn) for _ in range(3))
    whole = dpo_loss(logp, reference, reward)[0]
    turned = dpo_loss(logp.flip(1), reference.flip(1), reward.flip(1))[0]
    parts = [dpo_loss(*(x[b : b + 1] for x in (logp, reference, reward)))[0] for b in range(4)]
    for other in (turned, torch.stack(parts).mean()):
        torch.testing.assert_close(other, whole)


def test_a_loss_that_is_not_finite_stops_the_step() -> None:
    with pytest.raises(LearningError, match="DPO loss is nan"):
        dpo_loss(torch.full((1, 2), torch.nan), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
