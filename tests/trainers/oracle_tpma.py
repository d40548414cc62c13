"""The paper's equations with the paper's indices and Python loops: slow, obvious, the oracle of the vectorised code.

Indices run from 1 as printed. ``o[i]`` is rollout i, ``targets`` the list of targets of the prompt, ``w`` the weights,
``n[j]`` how many times rollout j counts in its group's means (in print: once). Only log-probabilities are tensors: autograd
through the loops is the slow gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Sid = Sequence[int]


def reward(o: Sequence[Sid], targets: Sequence[Sid], w: Sequence[float], i: int, l: int) -> float:  # noqa: E741
    """Eq. 13."""
    if not targets:
        return 0.0
    return max(sum(w[k - 1] * (o[i - 1][k - 1] == t[k - 1]) for k in range(1, l + 1)) for t in targets)


def marginal(o: Sequence[Sid], targets: Sequence[Sid], w: Sequence[float], i: int, l: int) -> float:  # noqa: E741
    """Eq. 14."""
    before = reward(o, targets, w, i, l - 1) if l > 1 else 0.0
    return reward(o, targets, w, i, l) - before


def zscore(values: Sequence[float], n: Sequence[int], i: int, delta: float) -> float:
    """Eq. 11 and 15: of value i within its group."""
    mean = sum(count * v for count, v in zip(n, values, strict=True)) / sum(n)
    std = math.sqrt(sum(count * (v - mean) ** 2 for count, v in zip(n, values, strict=True)) / sum(n))
    return (values[i - 1] - mean) / (std + delta)


def gate(o: Sequence[Sid], targets: Sequence[Sid], i: int, l: int, strict: bool) -> float:  # noqa: E741
    """Eq. 16, or its strict form: matches counted up to the first miss against one target."""
    if l == 1:
        return 1.0
    best = 0
    for t in targets:
        count = 0
        for k in range(1, l):
            same = o[i - 1][k - 1] == t[k - 1]
            if strict and not same:
                break
            count += same
        best = max(best, count)
    return best / (l - 1)


def loss(
    logp: Tensor,
    old: Tensor,
    groups: Sequence[Sequence[Sid]],
    targets: Sequence[Sequence[Sid]],
    item_rewards: Sequence[Sequence[float]],
    w: Sequence[float],
    delta: float,
    w_item: float,
    strict: bool,
    after_norm: bool,
    gate_item: bool,
    w_position: float = 1.0,
    counts: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """Eq. 19 averaged over prompts, r_{i,l} = exp(logp - old); ``logp`` and ``old`` are [B, G, L]."""
    total, length = torch.zeros((), dtype=torch.float64), len(w)
    for b, (o, ts, rewards) in enumerate(zip(groups, targets, item_rewards, strict=True)):
        size = len(o)
        n = [1] * size if counts is None else counts[b]
        for i in range(1, size + 1):
            item = w_item * zscore(rewards, n, i, delta)
            for l in range(1, length + 1):  # noqa: E741
                advantage = zscore([marginal(o, ts, w, j, l) for j in range(1, size + 1)], n, i, delta)
                if after_norm:
                    advantage *= w[l - 1] / (sum(w) / length)
                g = gate(o, ts, i, l, strict)
                final = g * w_position * advantage + (g if gate_item else 1.0) * item
                ratio = torch.exp(logp[b, i - 1, l - 1] - old[b, i - 1, l - 1])
                total = total - n[i - 1] / sum(n) / length * ratio * final
    return total / len(groups)
