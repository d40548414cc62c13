"""Every setting of the objective reaches the loss: each learner against slow loops, and one by one by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers import oracle_baselines, oracle_tpma
from tests.trainers.group_toys import Batch, batches, counts, gradient, pad, shares
from trainers.credit import WEIGHTS_L
from trainers.losses import sft_loss
from trainers.objective import group_loss
from trainers.passes import Groups, Seen, loss_of
from trainers.rewards import GroupRewards
from trainers.rollout import ReweightedRollouts
from trainers.settings import LossSettings
from trainers.targets import Targets

TARGET = [1, 2, 3, 4, 5]
LOSSES = st.builds(
    LossSettings,
    position_weighting=st.sampled_from(["paper", "after_norm"]),
    gate=st.sampled_from(["paper", "strict_prefix"]),
    gate_item_advantage=st.booleans(),
    w_item=st.sampled_from([0.0, 0.5, 1.0]),
    w_position=st.sampled_from([0.0, 0.7, 1.0]),
    delta=st.sampled_from([1e-3, 0.25, 1.0]),
    entropy=st.sampled_from([0.0, 0.5, 2.0]),
    kl=st.sampled_from([0.0, 0.5]),
    dpo_beta=st.sampled_from([0.05, 0.1, 1.0]),
)


def nats(seed: int, *shape: int) -> Tensor:
    """Log-probabilities in eighths, 0 to -3: their sums are exact, so a group that ties does so in the loops too."""
    return -torch.randint(0, 25, shape, generator=torch.Generator().manual_seed(seed)).double() / 8


@pytest.mark.parametrize("learner", ["tpma", "grpo", "dpo"])
@given(batch=batches(), loss=LOSSES, seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=50, deadline=None)
def test_the_loss_of_a_group_is_that_of_the_loops(
    learner: Any, batch: Batch, loss: LossSettings, seed: int, data: st.DataObject
) -> None:
    """Whatever the settings, value and every derivative. TPMA and GRPO see R - entropy log pi - kl log(pi / pi_ref), held
    constant, and count a rollout by its weight; DPO sees R, and has no weights."""
    loss = loss.model_copy(update={"learner": learner})
    groups, targets, rewards = batch
    prompts, size = len(groups), len(groups[0])
    times = data.draw(st.none() | counts(prompts, size))
    logp_BGL, reference_BG = nats(seed, prompts, size, 5).requires_grad_(), nats(seed + 1, prompts, size)
    found, _ = group_loss(
        logp_BGL, torch.tensor(groups), torch.tensor(rewards, dtype=torch.float64), Targets(*pad(targets)), loss,
        reference_BG, None if times is None else shares(times),
    )  # fmt: skip
    old_BGL, references = logp_BGL.detach().clone(), reference_BG.tolist()
    if learner == "dpo":
        expected = oracle_baselines.dpo(logp_BGL.sum(dim=2), references, rewards, loss.dpo_beta)
    else:
        soft = [list[float]() for _ in groups]
        for b, row in enumerate(rewards):
            for i, reward in enumerate(row):
                logp = sum(old_BGL[b, i].tolist())
                soft[b].append(reward - loss.entropy * logp - loss.kl * (logp - references[b][i]))
        if learner == "grpo":
            ones = [[1] * size] * prompts
            advantages = [
                [oracle_tpma.zscore(row, n, i, loss.delta) for i in range(1, size + 1)]
                for row, n in zip(soft, times or ones, strict=True)
            ]
            expected = oracle_baselines.grpo(logp_BGL, old_BGL, advantages, loss.clip, times)
        else:
            expected = oracle_tpma.loss(
                logp_BGL, old_BGL, groups, targets, soft, WEIGHTS_L, loss.delta, loss.w_item, loss.gate == "strict_prefix",
                loss.position_weighting == "after_norm", loss.gate_item_advantage, loss.w_position, times,
            )  # fmt: skip
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(gradient(found, logp_BGL), gradient(expected, logp_BGL), rtol=1e-9, atol=1e-9)


def slopes(
    groups: list[list[int]], rewards: list[float], loss: LossSettings, reference: list[float] | None = None
) -> Tensor:
    """-d loss / d logp of one prompt with the target ``TARGET``, [G, L]: how each token is raised. The policy is at 0."""
    logp_BGL = torch.zeros(1, len(groups), 5, dtype=torch.float64, requires_grad=True)
    targets = Targets(torch.tensor([[TARGET]]), torch.ones(1, 1, dtype=torch.bool))
    found, _ = group_loss(
        logp_BGL, torch.tensor([groups]), torch.tensor([rewards], dtype=torch.float64), targets, loss,
        None if reference is None else torch.tensor([reference], dtype=torch.float64),
    )  # fmt: skip
    return -gradient(found, logp_BGL)[0]


@pytest.mark.parametrize(("gate", "last"), [("paper", 3 / 4), ("strict_prefix", 2 / 4)])
def test_the_gate_is_the_one_that_is_set(gate: Any, last: float) -> None:
    """A rollout that misses the third token alone, beside one that misses all: its advantages are 1, 1, 0, 1, 1, its gates
    1, 1, 1, 2/3, and at the last token three of four matches, or the two before the miss; over G L = 10."""
    loss = LossSettings(gate=gate, w_item=0, delta=1e-9)
    raised = slopes([[1, 2, 9, 4, 5], [9, 9, 9, 9, 9]], [0, 0], loss)[0]
    assert (10 * raised).tolist() == pytest.approx([1, 1, 0, 2 / 3, last])


@pytest.mark.parametrize("learner", ["tpma", "grpo"])
def test_delta_is_the_one_that_is_set(learner: Any) -> None:
    """Rewards 1 and 3, spread 1: the item advantages are -1 and 1 over 1 + delta, and without a gate on every token; over
    G L = 10. No token matches, so TPMA has no others."""
    for delta in (0.25, 1.0):
        loss = LossSettings(learner=learner, delta=delta, entropy=0)
        raised = slopes([[9] * 5, [8] * 5], [1, 3], loss)
        assert (10 * raised).tolist() == [pytest.approx([sign / (1 + delta)] * 5) for sign in (-1, 1)]


def test_delta_is_that_of_the_positions_too() -> None:
    """One rollout has the first token, worth 2, the other has not: spread 1, advantages 1 and -1 over 1 + delta, gate 1."""
    raised = slopes([[1, 9, 9, 9, 9], [9] * 5], [0, 0], LossSettings(delta=0.25, w_item=0))
    assert (10 * raised[:, 0]).tolist() == pytest.approx([0.8, -0.8])
    assert raised[:, 1:].abs().max() == 0


@pytest.mark.parametrize("beta", [0.1, 0.5, 3.0])
def test_dpos_beta_is_the_one_that_is_set(beta: float) -> None:
    """A winner that has lost 2 nats on the warm start, a loser that has lost none: each token of the winner is raised by
    beta sigmoid(2 beta), and of the loser lowered by as much."""
    raised = slopes([[9] * 5, [8] * 5], [1, 0], LossSettings(learner="dpo", dpo_beta=beta), reference=[2, 0])
    slope = beta / (1 + math.exp(-2 * beta))
    assert raised.tolist() == [pytest.approx([slope] * 5), pytest.approx([-slope] * 5)]


def seen(ce_BL: Tensor, logp_BGL: Tensor | None) -> Seen:
    """What the loss is made of: groups that differ in their rewards, weights and references, where there are any."""
    if logp_BGL is None:
        return Seen(torch.ones(len(ce_BL)), ce_BL, None)
    whole = logp_BGL.detach()
    shape, none = whole.shape[:2], np.zeros(0)
    codes_BGL = torch.arange(whole.numel()).reshape(whole.shape) % 3
    drawn = ReweightedRollouts(codes_BGL, whole, whole, codes_BGL[..., 0], nats(7, *shape))
    rewards = GroupRewards(nats(8, *shape).numpy(), none, none.astype(np.int64), none, none)
    return Seen(torch.ones(len(ce_BL)), ce_BL, Groups(drawn, rewards, logp_BGL, nats(9, *shape)))


#: Two views, the second without a target.
TARGETS = Targets(torch.zeros(2, 1, 5, dtype=torch.int64), torch.tensor([[True], [False]]))


@pytest.mark.parametrize(("kind", "worth"), [("cross_entropy", math.log(2)), ("focal", math.log(2) / 4)])
def test_the_supervised_term_is_the_one_that_is_set(kind: Any, worth: float) -> None:
    """At p = 1/2 a token's cross-entropy is log 2, and focal 2 (1/2)^3 log 2. One of two views has a target, so half of that
    is the loss of the learner ``sft``, and 0.3 of the half stands beside a group's loss."""
    ce_BL = torch.full((2, 5), math.log(2), dtype=torch.float64)
    alone, _ = loss_of(seen(ce_BL, None), TARGETS, LossSettings(learner="sft", sft=kind))
    assert alone.item() == pytest.approx(worth / 2)
    given = seen(ce_BL, nats(1, 2, 3, 5))
    found = [loss_of(given, TARGETS, LossSettings(sft=kind, beta_sft=beta))[0].item() for beta in (0.3, 0.0)]
    assert found[0] - found[1] == pytest.approx(0.3 * worth / 2)


@pytest.mark.parametrize("learner", ["tpma", "grpo", "dpo"])
def test_the_parts_are_those_of_what_was_seen(learner: Any) -> None:
    """It is that of the rollouts with their rewards, weights and references, and beta_sft times that of the targets."""
    logp_BGL, ce_BL = nats(1, 2, 3, 5).requires_grad_(), -nats(2, 2, 5)
    given, loss = seen(ce_BL, logp_BGL), LossSettings(learner=learner, kl=0.5, beta_sft=0.3, sft="focal")
    assert given.groups is not None
    drawn, rewards = given.groups.rollouts, torch.from_numpy(given.groups.rewards.reward_BG)
    group, of_group = group_loss(
        logp_BGL, drawn.sids_BGL, rewards, TARGETS, loss, given.groups.reference_BG, drawn.weight_BG
    )
    targets, of_targets = sft_loss(ce_BL, TARGETS.any_B, "focal")
    whole, metrics = loss_of(given, TARGETS, loss)
    assert whole.item() == pytest.approx(group.item() + 0.3 * targets.item())
    torch.testing.assert_close(gradient(whole, logp_BGL), gradient(group, logp_BGL))
    assert metrics.keys() == of_group.keys() | of_targets.keys()
