"""Supervised terms: cross-entropy of the first target, plain or focal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainers.losses.terms import Metrics, finite


def focal(ce_BL: Tensor, alpha: float = 2.0, gamma: float = 3.0) -> Tensor:
    """-alpha (1 - p)^gamma log p for each token, from its cross-entropy -log p (Eq. 8). [B, L] -> [B, L].

    What the model is sure of counts less: at p = 1/2 and the paper's values a quarter of the cross-entropy.
    """
    return alpha * (-torch.expm1(-ce_BL)).pow(gamma) * ce_BL


def sft_loss(
    ce_BL: Tensor, has_target_B: Tensor, kind: Literal["cross_entropy", "focal"] = "cross_entropy"
) -> tuple[Tensor, Metrics]:
    """Mean over prompts of the loss per token of the first target; a prompt without one counts 0.

    Dividing by all prompts, not by those with a target, keeps the sum over micro-batches equal to the whole batch.

    Args:
        ce_BL: nats over the whole vocabulary; rows without a target may hold anything finite.

    Raises:
        LearningError: the loss is not finite.
    """
    token_BL = focal(ce_BL) if kind == "focal" else ce_BL
    loss = torch.where(has_target_B, token_BL.mean(dim=-1), 0).mean()
    metrics = {"target_share": has_target_B.to(ce_BL.dtype).mean()}
    if has_target_B.any():  # of no target nothing is known: 0 would pass for a model that is sure
        metrics["sft_ce"] = ce_BL.detach()[has_target_B].mean()
    return finite(loss, "SFT loss"), metrics
