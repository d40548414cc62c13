"""Item advantages: what a whole item is worth beside its group (Eq. 11)."""

from __future__ import annotations

from torch import Tensor

from trainers.credit.standard import standardise


def item_advantages(reward_BG: Tensor, delta: float, weight_BG: Tensor | None = None) -> Tensor:
    """Eq. 11: A_i = (R_i - mean_j R_j) / (std_j R_j + delta). [B, G] -> [B, G]."""
    return standardise(reward_BG, delta, weight_BG)
