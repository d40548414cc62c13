"""What the losses share: the ratio of an on-policy learner, the mean over groups, and the stop on a loss that is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from schemas.errors import NotFinite

Metrics = dict[str, Tensor]


def on_policy_ratio(logp_BGL: Tensor) -> Tensor:
    """exp(logp - logp.detach()): the value is 1, the gradient that of logp. Rollouts come from the present weights."""
    return torch.exp(logp_BGL - logp_BGL.detach())


def group_mean(values_BGL: Tensor, weight_BG: Tensor | None) -> Tensor:
    """Mean over positions, then over each group by its weights (which sum to 1; None: all alike), then over prompts."""
    if weight_BG is None:
        return values_BGL.mean()
    return (values_BGL.mean(dim=-1) * weight_BG.to(values_BGL.dtype)).sum(dim=1).mean()


def finite(loss: Tensor, name: str) -> Tensor:
    """The loss itself.

    Raises:
        NotFinite: it is NaN or infinite.
    """
    if not torch.isfinite(loss):
        raise NotFinite(f"{name} is {loss.item()}", "lower the learning rate, or resume from the checkpoint before")
    return loss
