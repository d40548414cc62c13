"""GRPO against its formula in plain loops, with ratios on both sides of both clips."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers import oracle_baselines as oracle
from tests.trainers.group_toys import counts, gradient, normal, shares
from trainers.losses import grpo_loss


class Drawn(NamedTuple):
    """A batch: what its rollouts were drawn with, how far the policy has gone since, and what they are worth."""

    old_BGL: torch.Tensor
    ratio_BGL: torch.Tensor
    advantages: list[list[float]]
    counts: list[list[int]] | None
    clip: float


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """1-2 prompts, groups of 2-4, 1-3 tokens. Ratios below, between and above the clips, not on one: it has no slope."""
    prompts, size, tokens = draw(st.integers(1, 2)), draw(st.integers(2, 4)), draw(st.integers(1, 3))
    clip = draw(st.sampled_from([0.1, 0.2, 0.6]))
    low, high = 1 - clip, 1 + clip
    ratio = st.one_of(st.floats(0.1, low - 0.01), st.floats(low + 0.01, high - 0.01), st.floats(high + 0.01, 3))
    everywhere = st.lists(ratio, min_size=prompts * size * tokens, max_size=prompts * size * tokens)
    row = st.lists(st.floats(-3, 3), min_size=size, max_size=size)
    return Drawn(
        normal(draw(st.integers(0, 2**32 - 1)), prompts, size, tokens),
        torch.tensor(draw(everywhere), dtype=torch.float64).reshape(prompts, size, tokens),
        [draw(row) for _ in range(prompts)],
        draw(st.none() | counts(prompts, size)),
        clip,
    )


@given(drawn())
@settings(max_examples=80, deadline=None)
def test_the_loss_is_the_formula(batch: Drawn) -> None:
    """The value, and the derivative by every log-probability on its own, are those of the loops. The older log-probabilities
    and the advantages are constants, whatever they hang on."""
    old_BGL = batch.old_BGL.clone().requires_grad_()
    item_BG = torch.tensor(batch.advantages, dtype=torch.float64, requires_grad=True)
    logp_BGL = (batch.old_BGL + batch.ratio_BGL.log()).requires_grad_()
    weight_BG = None if batch.counts is None else shares(batch.counts)
    loss, metrics = grpo_loss(logp_BGL, item_BG, old_BGL, batch.clip, weight_BG)
    expected = oracle.grpo(logp_BGL, batch.old_BGL, batch.advantages, batch.clip, batch.counts)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    by_logp_BGL, *others = torch.autograd.grad(loss, [logp_BGL, old_BGL, item_BG], allow_unused=True)
    assert others == [None, None]
    torch.testing.assert_close(by_logp_BGL, gradient(expected, logp_BGL), rtol=1e-12, atol=1e-12)
    beyond = [abs(ratio - 1) > batch.clip for ratio in batch.ratio_BGL.flatten().tolist()]
    assert metrics["clipped_share"].item() == pytest.approx(sum(beyond) / len(beyond))


@pytest.mark.parametrize(
    ("ratio", "advantage", "worth", "slope"),
    [
        (1.5, 1.0, 1.2, 0.0),
        (1.5, -1.0, -1.5, -1.5),
        (0.5, 1.0, 0.5, 0.5),
        (0.5, -1.0, -0.8, 0.0),
        (1.1, 1.0, 1.1, 1.1),
        (0.9, -1.0, -0.9, -0.9),
    ],
)
def test_clips_what_moved_too_far_the_way_it_should(ratio: float, advantage: float, worth: float, slope: float) -> None:
    """At c = 0.2 a good item gains no more beyond 1.2, a bad one loses no more below 0.8; what moved the wrong way counts.

    The slope by logp is the ratio times the advantage, or none. Two rollouts alike, so each has half of it.
    """
    logp = torch.full((1, 2, 1), math.log(ratio), dtype=torch.float64, requires_grad=True)
    loss, metrics = grpo_loss(logp, torch.tensor([[advantage] * 2]), torch.zeros(1, 2, 1), clip=0.2)
    assert loss.item() == pytest.approx(-worth)
    assert gradient(loss, logp).flatten().tolist() == pytest.approx([-slope / 2] * 2)
    assert metrics["clipped_share"] == (ratio in (1.5, 0.5))


def test_gives_every_token_the_items_advantage() -> None:
    """On-policy: d loss / d logp = -A_i / (B G L)."""
    logp, item = normal(0, 2, 3, 5).requires_grad_(), normal(1, 2, 3)
    loss, _ = grpo_loss(logp, item)
    torch.testing.assert_close(gradient(loss, logp), -item[..., None].expand(2, 3, 5) / 30)
