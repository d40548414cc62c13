"""Gates: how far a token may learn, by how much of its prefix was right (Eq. 16)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainers.credit.matches import best_prefix


def prefix_gates(match_BGTL: Tensor, kind: Literal["paper", "strict_prefix"], dtype: torch.dtype) -> Tensor:
    """g_{i,1} = 1, g_{i,l} = M_{i,l-1} / (l - 1) in [0, 1]; M counts matches of the tokens before. Returns [B, G, L].

    [trap] M is unweighted: with the weighted R of Eq. 13 a gate would reach 2.
    [trap] ``paper`` counts position by position, so a wrong first token followed by right ones still opens the later
    gates (1, 0, 1/2, 2/3, 3/4). ``strict_prefix`` counts only while the prefix agrees with one and the same target.
    """
    if kind == "strict_prefix":
        match_BGTL = match_BGTL.cumprod(dim=-1)
    before = match_BGTL.shape[-1] - 1
    ones_L = torch.ones(before, dtype=dtype, device=match_BGTL.device)
    matches_BGL = best_prefix(match_BGTL[..., :before], ones_L)
    return pad(matches_BGL / ones_L.cumsum(dim=0), (1, 0), value=1.0)
