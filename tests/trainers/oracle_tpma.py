"""The paper's equations with the paper's indices and Python loops: slow, obvious, the oracle of the vectorised code.

Indices run from 1 as printed. ``o[i]`` is rollout i, ``targets`` the list of targets of the prompt, ``w`` the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def zscore(values: Sequence[float], i: int, delta: float) -> float:
    """Eq. 11 and 15: of value i within its group."""
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
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
    groups: Sequence[Sequence[Sid]],
    targets: Sequence[Sequence[Sid]],
    item_rewards: Sequence[Sequence[float]],
    w: Sequence[float],
    delta: float,
    w_item: float,
    strict: bool,
    after_norm: bool,
    gate_item: bool,
) -> float:
    """Eq. 19 at ratio 1, averaged over prompts."""
    total = 0.0
    for o, ts, rewards in zip(groups, targets, item_rewards, strict=True):
        size, length = len(o), len(w)
        for i in range(1, size + 1):
            for l in range(1, length + 1):  # noqa: E741
                advantage = zscore([marginal(o, ts, w, j, l) for j in range(1, size + 1)], i, delta)
                if after_norm:
                    advantage *= w[l - 1] / (sum(w) / length)
                g = gate(o, ts, i, l, strict)
                total += g * advantage + (g if gate_item else 1.0) * w_item * zscore(rewards, i, delta)
    return -total / (len(groups) * size * length)
