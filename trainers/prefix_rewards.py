"""Prefix rewards of TPMA: how much of a target each rollout has reproduced after every token (Eq. 13-14).

Letters: B prompts, G rollouts, T targets of a prompt (padded, see the mask), L identifier length.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: w of Eq. 13: three shared residual levels weigh 2, the two OPQ levels 1. [trap] indexed from the first token: the
#: authors' release shifts it by one, under-weights level 3 and never rewards the last token.
WEIGHTS_L: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0, 1.0)


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


def prefix_rewards(match_BGTL: Tensor, weights_L: Tensor) -> Tensor:
    """Eq. 13: R_{i,l} = max_t sum_{k<=l} w_k m_{i,k,t}. Returns R_BGL in the dtype of the weights."""
    return best_prefix(match_BGTL, weights_L)


def marginal_rewards(reward_BGL: Tensor) -> Tensor:
    """Eq. 14: dR_{i,l} = R_{i,l} - R_{i,l-1}, with R_{i,0} = 0. [B, G, L] -> [B, G, L]."""
    return torch.diff(reward_BGL, dim=-1, prepend=torch.zeros_like(reward_BGL[..., :1]))
