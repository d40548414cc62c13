"""Prefix rewards, advantages and gates against the paper's indices, and every trap on its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import LearningError
from tests.trainers import oracle_tpma as oracle
from tests.trainers.group_toys import Batch, Sids, batches, gradient, normal, pad
from trainers.credit import (
    WEIGHTS_L,
    item_advantages,
    marginal_rewards,
    position_advantages,
    prefix_gates,
    prefix_rewards,
    token_matches,
)
from trainers.credit.standard import standardise
from trainers.losses import tpma_loss

W = torch.tensor(WEIGHTS_L, dtype=torch.float64)
DELTA = 1e-6


def match(sids: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
    """m_BGTL of one prompt."""
    target_BTL = torch.tensor([targets]).reshape(1, len(targets), 5)
    return token_matches(torch.tensor([sids]), target_BTL, torch.ones(1, len(targets), dtype=torch.bool))


def test_weights_index_from_the_first_token() -> None:
    """A full match is worth 2+2+2+1+1 = 8; the release's shift would give 2+2+1+1+0 = 6 and nothing for the last token."""
    reward = prefix_rewards(match([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]]), W)
    assert reward[0, 0].tolist() == [2, 4, 6, 7, 8]
    assert marginal_rewards(reward)[0, 0].tolist() == [2, 2, 2, 1, 1]


def test_the_maximum_is_per_position_over_targets() -> None:
    """Target A is matched at 1 (2), target B at 2 and 3 (0, 2, 4): the maxima are 2, 2, 4 and the marginals 2, 0, 2."""
    reward = prefix_rewards(match([[1, 2, 3, 0, 0]], [[1, 9, 9, 9, 9], [8, 2, 3, 9, 9]]), W)
    assert reward[0, 0].tolist() == [2, 2, 4, 4, 4]
    assert marginal_rewards(reward)[0, 0].tolist() == [2, 0, 2, 0, 0]


def test_a_constant_group_has_no_advantage_at_all() -> None:
    """0.1 summed and divided in fp32 is not 0.1: centring first would leave noise that a small delta blows up."""
    for value in (0.1, 1 / 3, 2.7, 1e6 + 0.1):
        for size in (3, 7, 16, 48):
            advantage = item_advantages(torch.full((4, size), value, dtype=torch.float32), 1e-8)
            assert torch.equal(advantage, torch.zeros(4, size))


def test_the_naive_formula_would_fail_that() -> None:
    """The trap is real: mean first, and some constant group gets an advantage near 1."""
    worst = 0.0
    for value in torch.linspace(0.1, 5, 200):
        group = torch.full((7,), float(value), dtype=torch.float32)
        centred = group - group.mean()
        worst = max(worst, float((centred / (centred.square().mean().sqrt() + 1e-8)).abs().max()))
    assert worst > 0.5


def test_a_group_of_one_is_an_error() -> None:
    """Not NaN and not zero: there is nothing to compare with."""
    with pytest.raises(LearningError, match="at least 2"):
        item_advantages(torch.ones(3, 1), DELTA)
    with pytest.raises(LearningError, match="at least 2"):
        position_advantages(torch.ones(3, 1, 5), W, DELTA, "paper")


def test_item_advantage_by_hand() -> None:
    """Rewards 1, 3: mean 2, standard deviation of the group 1 (not sqrt 2), so -1 and 1 over 1 + delta."""
    advantage = item_advantages(torch.tensor([[1.0, 3.0]], dtype=torch.float64), 0.25)
    assert advantage.tolist() == [[-0.8, 0.8]]


def test_the_z_score_cancels_the_weights() -> None:
    """With ``paper``, w = (2,2,2,1,1) and (1,1,1,1,1) give the same advantages; with ``after_norm`` they do not."""
    found = match([[1, 2, 3, 4, 5], [1, 2, 0, 0, 5], [0, 2, 3, 4, 0]], [[1, 2, 3, 4, 5]])
    advantages = {}
    for name, w in (("paper's w", W), ("ones", torch.ones(5, dtype=torch.float64))):
        marginal = marginal_rewards(prefix_rewards(found, w))
        advantages[name] = [position_advantages(marginal, w, 1e-12, kind) for kind in ("paper", "after_norm")]
    torch.testing.assert_close(advantages["paper's w"][0], advantages["ones"][0])
    expected = advantages["ones"][0] * torch.tensor([1.25, 1.25, 1.25, 0.625, 0.625], dtype=torch.float64)
    torch.testing.assert_close(advantages["paper's w"][1], expected)


def test_gates_of_a_wrong_first_token() -> None:
    """The printed gate counts position by position; the strict one never opens again."""
    found = match([[9, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]])
    torch.testing.assert_close(
        prefix_gates(found, "paper", torch.float64)[0, 0], torch.tensor([1, 0, 1 / 2, 2 / 3, 3 / 4], dtype=torch.float64)
    )
    assert prefix_gates(found, "strict_prefix", torch.float64)[0, 0].tolist() == [1, 0, 0, 0, 0]


def test_gates_count_matches_without_weights() -> None:
    """A full match opens every gate to exactly 1; the weighted reward would open them to 2, 2, 2, 7/4."""
    found = match([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]])
    for kind in ("paper", "strict_prefix"):
        assert prefix_gates(found, kind, torch.float64)[0, 0].tolist() == [1, 1, 1, 1, 1]


def test_a_strict_prefix_belongs_to_one_target() -> None:
    """Token 1 agrees with A only, token 2 with B only: strictly one match, not two."""
    found = match([[1, 2, 0, 0, 0]], [[1, 9, 9, 9, 9], [9, 2, 9, 9, 9]])
    assert prefix_gates(found, "strict_prefix", torch.float64)[0, 0].tolist() == [1, 1, 1 / 2, 1 / 3, 1 / 4]


def test_a_view_without_targets() -> None:
    """No click, no order: marginals are zero, gates (1,0,0,0,0); so a gated item advantage teaches token 1 alone."""
    found = match([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], [])
    gate = prefix_gates(found, "paper", torch.float64)
    assert gate[0].tolist() == [[1, 0, 0, 0, 0]] * 2
    item = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    for gated, rows in ((True, 1), (False, 5)):
        logp = torch.zeros(1, 2, 5, dtype=torch.float64, requires_grad=True)
        tpma_loss(logp, torch.zeros(1, 2, 5), item, gate, gate_item_advantage=gated)[0].backward()
        assert logp.grad is not None
        assert int((logp.grad[0, 0] != 0).sum()) == rows


def vectorised(
    groups: list[Sids], targets: tuple[torch.Tensor, torch.Tensor], rewards: list[list[float]], kind: str,
    weighting: str, gated: bool, w_item: float, logp: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The product's path from identifiers to the loss."""
    found = token_matches(torch.tensor(groups), *targets)
    marginal = marginal_rewards(prefix_rewards(found, W))
    position = position_advantages(marginal, W, DELTA, weighting)  # type: ignore[arg-type]
    item = item_advantages(torch.tensor(rewards, dtype=torch.float64), DELTA)
    gate = prefix_gates(found, kind, torch.float64)  # type: ignore[arg-type]
    logp = torch.zeros_like(position) if logp is None else logp
    return tpma_loss(logp, position, item, gate, w_item, 1.0, gated)[0]


@given(batches(), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_the_loss_is_the_papers(batch: Batch, seed: int, strict: bool, after_norm: bool, gated: bool, w_item: float) -> None:
    """The value, and the derivative by every log-probability on its own, are those of the loops, whatever the variant.

    TPMA takes no older log-probabilities: to the loops the ratio's denominator is a constant with logp's own value.
    """
    groups, targets, rewards = batch
    kind, weighting = "strict_prefix" if strict else "paper", "after_norm" if after_norm else "paper"
    logp = normal(seed, len(groups), len(groups[0]), 5).requires_grad_()
    loss = vectorised(groups, pad(targets), rewards, kind, weighting, gated, w_item, logp)
    variant = WEIGHTS_L, DELTA, w_item, strict, after_norm, gated
    expected = oracle.loss(logp, logp.detach().clone(), groups, targets, rewards, *variant)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(gradient(loss, logp), gradient(expected, logp), rtol=1e-9, atol=1e-9)


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_and_padding_change_nothing(batch: Batch, random: object) -> None:
    """Permuting targets, rollouts or prompts, and splitting prompts into micro-batches, only rounds differently."""
    groups, targets, rewards = batch
    value = vectorised(groups, pad(targets), rewards, "paper", "after_norm", False, 1.0)
    width = max(map(len, targets)) + 1
    turned = vectorised(groups, pad(targets, list(range(width))[::-1]), rewards, "paper", "after_norm", False, 1.0)
    back = [g[::-1] for g in groups][::-1], [r[::-1] for r in rewards][::-1]
    reverse = vectorised(back[0], pad(targets[::-1]), back[1], "paper", "after_norm", False, 1.0)
    parts = [vectorised([g], pad([t]), [r], "paper", "after_norm", False, 1.0) for g, t, r in zip(*batch, strict=True)]
    for other in (turned, reverse, torch.stack(parts).mean()):
        assert other.item() == pytest.approx(value.item(), abs=1e-9)


@given(st.lists(st.lists(st.floats(-100, 100), min_size=4, max_size=4), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_standardised_values_are_centred_and_bounded(values: list[list[float]]) -> None:
    """Mean 0; no value can be further than sqrt(G - 1) standard deviations from it."""
    advantage = standardise(torch.tensor(values, dtype=torch.float64), DELTA)
    assert advantage.mean(dim=1).abs().max() < 1e-6
    assert advantage.abs().max() <= 3**0.5 + 1e-6
