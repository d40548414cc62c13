"""List-wise DPO: the best of a group against all that are worth less, each pair by how much less (V1 Eq. 11)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trainers.losses.terms import Metrics, finite


def dpo_loss(logp_BG: Tensor, reference_BG: Tensor, reward_BG: Tensor, beta: float = 0.1) -> tuple[Tensor, Metrics]:
    """Mean over prompts of -log sigmoid(-log sum_k exp(w_k beta (d_k - d_w))), d = log pi - log pi_ref of an identifier.

    The winner w is the rollout of the highest reward (the first of several), the losers k all of a lower one, with
    w_k = (R_w - R_k) / (R_w - min R) in (0, 1]. A group of equal rewards prefers nothing and counts 0.

    [trap] V1 prints d_w - d_k, with which a pair in the wrong order has no gradient: the sign here is S-DPO's.

    Args:
        logp_BG: of the whole identifier, with gradient.
        reference_BG: the same under the policy that the learner started from.

    Raises:
        LearningError: the loss is not finite.
    """
    best_B1, winner_B1 = reward_BG.max(dim=1, keepdim=True)
    gap_BG = best_B1 - reward_BG
    spread_B1 = gap_BG.amax(dim=1, keepdim=True)
    loser_BG, any_B = gap_BG > 0, spread_B1[:, 0] > 0
    weight_BG = (gap_BG / torch.where(spread_B1 > 0, spread_B1, 1)).to(logp_BG.dtype)
    gain_BG = logp_BG - reference_BG.to(logp_BG.dtype)
    pair_BG = weight_BG * beta * (gain_BG - gain_BG.gather(1, winner_B1))
    # A row without losers would be log 0: it is left at 0 before the logarithm, or its gradient would be NaN.
    pair_BG = torch.where(loser_BG, pair_BG, -torch.inf)
    total_B = torch.logsumexp(torch.where(any_B[:, None], pair_BG, 0), dim=1)
    loss = torch.where(any_B, softplus(total_B), 0).mean()  # -log sigmoid(-x) = softplus(x)
    ordered_BG = loser_BG & (gain_BG < gain_BG.gather(1, winner_B1))
    metrics = {
        "preferring_share": any_B.to(logp_BG.dtype).mean(),
        "pairs_in_order": ordered_BG.sum() / loser_BG.sum().clamp(min=1),
    }
    return finite(loss, "DPO loss"), metrics
