"""Standard scores within a group of rollouts, by the group's own standard deviation (divided by G, not G - 1)."""

from __future__ import annotations

from torch import Tensor

from schemas.errors import LearningError


def standardise(values_BG: Tensor, delta: float, weight_BG: Tensor | None = None) -> Tensor:
    """(x - mean) / (std + delta) over axis 1, the rollouts of a prompt; further axes are kept apart.

    ``weight_BG`` (`trainers.rollout.Rollouts.weight_BG`): each rollout's share in mean and std; None: 1 / G.

    [trap] Centring a constant group in fp32 leaves rounding noise as large as its standard deviation, and with a small
    delta that noise becomes an advantage near 1. Subtracting the group's first element before the mean makes a constant
    group zeros, exactly.

    Raises:
        LearningError: a group of one has no spread to compare against.
    """
    if values_BG.shape[1] < 2:
        raise LearningError(f"a group has {values_BG.shape[1]} rollouts, but must have at least 2", "raise `group`")
    shifted = values_BG - values_BG[:, :1]
    centred = shifted - _group_mean(shifted, weight_BG)
    std = _group_mean(centred.square(), weight_BG).sqrt()
    return centred / (std + delta)


def _group_mean(values_BG: Tensor, weight_BG: Tensor | None) -> Tensor:
    """Mean over axis 1, which is kept."""
    if weight_BG is None:
        return values_BG.mean(dim=1, keepdim=True)
    shape = (*weight_BG.shape, *(1,) * (values_BG.dim() - 2))
    return (weight_BG.to(values_BG.dtype).view(shape) * values_BG).sum(dim=1, keepdim=True)
