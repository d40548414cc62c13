"""Marginal rewards: what each token adds to the reward of its prefix (Eq. 14)."""

from __future__ import annotations

import torch
from torch import Tensor


def marginal_rewards(reward_BGL: Tensor) -> Tensor:
    """Eq. 14: dR_{i,l} = R_{i,l} - R_{i,l-1}, with R_{i,0} = 0. [B, G, L] -> [B, G, L]."""
    return torch.diff(reward_BGL, dim=-1, prepend=torch.zeros_like(reward_BGL[..., :1]))
