"""GRPO (Eq. 12) and list-wise DPO (V1 Eq. 11, with the sign of S-DPO) in loops: slow, obvious, the fast losses' oracle.

Log-probabilities are tensors, so autograd through the loops is the slow gradient; all else is plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Group = Sequence[float]


def grpo(
    logp: Tensor, old: Tensor, advantages: Sequence[Group], clip: float, counts: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """-mean over prompts, rollouts and tokens of min(r A, clip(r, 1 - c, 1 + c) A), r = exp(logp - old).

    ``counts``: how many times each rollout counts in its group's mean; None: once. ``logp`` and ``old`` are [B, G, L].
    """
    total = torch.zeros((), dtype=torch.float64)
    for b, row in enumerate(advantages):
        n, tokens = [1] * len(row) if counts is None else counts[b], logp.shape[2]
        for i, advantage in enumerate(row):
            for l in range(tokens):  # noqa: E741
                ratio = torch.exp(logp[b, i, l] - old[b, i, l])
                bounded: Tensor | float = ratio
                if ratio.item() < 1 - clip:
                    bounded = 1 - clip
                if ratio.item() > 1 + clip:
                    bounded = 1 + clip
                total = total - n[i] / sum(n) / tokens * min(ratio * advantage, bounded * advantage)
    return total / len(advantages)


def dpo(logp: Tensor, references: Sequence[Group], rewards: Sequence[Group], beta: float) -> Tensor:
    """Mean over prompts of -log sigmoid(-log sum_k exp(w_k beta (d_k - d_w))); ``logp`` is [B, G], of whole identifiers."""
    total = torch.zeros((), dtype=torch.float64)
    for b, (reference, reward) in enumerate(zip(references, rewards, strict=True)):
        best = max(range(len(reward)), key=lambda i: (reward[i], -i))
        losers = [k for k in range(len(reward)) if reward[k] < reward[best]]
        if not losers:
            continue
        d = [logp[b, i] - reference[i] for i in range(len(reward))]
        spread = reward[best] - min(reward)
        pairs = [torch.exp((reward[best] - reward[k]) / spread * beta * (d[k] - d[best])) for k in losers]
        total = total - torch.log(1 / (1 + torch.exp(torch.log(torch.stack(pairs).sum()))))
    return total / len(rewards)
