"""What the losses share: the ratio of an on-policy learner, and the stop on a loss that is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from schemas.errors import NotFinite

Metrics = dict[str, Tensor]


def on_policy_ratio(logp_BGL: Tensor) -> Tensor:
    """exp(logp - logp.detach()): the value is 1, the gradient that of logp. Rollouts come from the present weights."""
    return torch.exp(logp_BGL - logp_BGL.detach())


def finite(loss: Tensor, name: str) -> Tensor:
    """The loss itself.

    Raises:
        NotFinite: it is NaN or infinite.
    """
    if not torch.isfinite(loss):
        raise NotFinite(f"{name} is {loss.item()}", "lower the learning rate, or resume from the checkpoint before")
    return loss
