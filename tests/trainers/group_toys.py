"""Groups for property tests: few codes, so that rollouts do match targets, and rewards on a grid, so that groups do tie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st

Sids = list[list[int]]
Batch = tuple[list[Sids], list[Sids], list[list[float]]]  #: rollouts, targets and rewards of every prompt

codes = st.lists(st.integers(0, 2), min_size=5, max_size=5)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """1-3 prompts, groups of 2-5, 0-3 targets each, rewards on a grid (so that constant groups occur)."""
    prompts, size = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    groups = [draw(st.lists(codes, min_size=size, max_size=size)) for _ in range(prompts)]
    targets = [draw(st.lists(codes, max_size=3)) for _ in range(prompts)]
    rewards = [draw(st.lists(st.integers(0, 4).map(float), min_size=size, max_size=size)) for _ in range(prompts)]
    return groups, targets, rewards


def pad(targets: Sequence[Sids], order: list[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and their mask; padding repeats code 0, which rollouts do produce."""
    width = max(map(len, targets)) + 1
    target_BTL = torch.zeros(len(targets), width, 5, dtype=torch.long)
    has_BT = torch.zeros(len(targets), width, dtype=torch.bool)
    for b, rows in enumerate(targets):
        for t, row in enumerate(rows):
            target_BTL[b, t], has_BT[b, t] = torch.tensor(row), True
    if order is not None:
        target_BTL, has_BT = target_BTL[:, order], has_BT[:, order]
    return target_BTL, has_BT


def counts(prompts: int, size: int) -> st.SearchStrategy[list[list[int]]]:
    """How many times each rollout counts in its group."""
    row = st.lists(st.integers(1, 4), min_size=size, max_size=size)
    return st.lists(row, min_size=prompts, max_size=prompts)


def shares(counts: Sequence[Sequence[int]]) -> torch.Tensor:
    """weight_BG of rollouts that count so many times each."""
    counts_BG = torch.tensor(counts, dtype=torch.float64)
    return counts_BG / counts_BG.sum(dim=1, keepdim=True)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    """d loss / d logp, zeros where it has no part in the loss."""
    if not loss.requires_grad:
        return torch.zeros_like(logp)
    (found,) = torch.autograd.grad(loss, [logp])
    return found
