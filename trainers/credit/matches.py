"""Which tokens of a rollout agree with which target, and the best running sum of it: what prefix rewards and gates are made of.

Letters: B prompts, G rollouts, T targets of a prompt (padded, see the mask), L identifier length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_matches(sids_BGL: Tensor, targets_BTL: Tensor, has_target_BT: Tensor) -> Tensor:
    """m_BGTL = [o_i^l = t^l], bool; a padded target (mask False) matches nothing.

    In memory L and T come first: sums over positions and maxima over targets then run over whole blocks.
    """
    wanted_BTL = torch.where(has_target_BT[..., None], targets_BTL, -1)  # no code is -1
    sids_LBG, wanted_LTB = sids_BGL.permute(2, 0, 1).contiguous(), wanted_BTL.permute(2, 1, 0)
    return (sids_LBG[:, None] == wanted_LTB[..., None]).permute(2, 3, 1, 0)


def best_prefix(match_BGTL: Tensor, weights_L: Tensor) -> Tensor:
    """max over targets of the weighted matches up to every position, [B, G, T, L] -> [B, G, L]; zeros where T is 0.

    The maximum is taken at every position on its own, as Eq. 13 prints it: two positions may speak of two targets.
    Position by position: torch's `cumsum` over an axis of five takes several times as long.
    """
    if 0 in match_BGTL.shape[2:]:
        return weights_L.new_zeros(*match_BGTL.shape[:2], match_BGTL.shape[3])
    match_LTBG, best_LBG = match_BGTL.permute(3, 2, 0, 1), []
    score_TBG = torch.zeros_like(match_LTBG[0], dtype=weights_L.dtype)
    for match_TBG, weight in zip(match_LTBG, weights_L, strict=True):
        score_TBG += match_TBG * weight
        best_LBG.append(score_TBG.amax(dim=0))
    return torch.stack(best_LBG).movedim(0, -1)  # in memory L comes first still
