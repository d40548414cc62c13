"""The loss of GRPO: one advantage for all tokens of an item, under a clipped ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.losses.terms import Metrics, finite, group_mean, on_policy_ratio


def grpo_loss(
    logp_BGL: Tensor, item_BG: Tensor, old_logp_BGL: Tensor | None = None, clip: float = 0.2, weight_BG: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Eq. 12: -mean over B, G, L of min(r A_i, clip(r, 1 - c, 1 + c) A_i), the same advantage on every token.

    ``old_logp_BGL`` None means on-policy: the ratio is 1 and nothing is clipped. ``weight_BG`` as in `tpma_loss`.

    Raises:
        LearningError: the loss is not finite.
    """
    ratio_BGL = on_policy_ratio(logp_BGL) if old_logp_BGL is None else torch.exp(logp_BGL - old_logp_BGL.detach())
    item_BG1 = item_BG.detach()[..., None]
    bounded_BGL = ratio_BGL.clamp(1 - clip, 1 + clip)
    loss = -group_mean(torch.minimum(ratio_BGL * item_BG1, bounded_BGL * item_BG1), weight_BG)
    clipped = ((ratio_BGL - 1).abs() > clip).to(logp_BGL.dtype).mean()
    return finite(loss, "GRPO loss"), {"advantage_spread": item_BG.std(), "clipped_share": clipped}
