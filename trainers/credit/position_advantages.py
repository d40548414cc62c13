"""Position advantages: what each token adds beside its group (Eq. 15)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from trainers.credit.standard import standardise


def position_advantages(
    marginal_BGL: Tensor, weights_L: Tensor, delta: float, weighting: Literal["paper", "after_norm"],
    weight_BG: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Eq. 15: the marginals standardised over the group, each position on its own. [B, G, L] -> [B, G, L].

    [trap] The z-score of a position cancels its w, so as printed w has no effect (``paper``); ``after_norm`` multiplies
    by w_l / mean(w) afterwards, which keeps the total scale and gives the levels their intended weights.
    """
    advantage_BGL = standardise(marginal_BGL, delta, weight_BG)
    if weighting == "after_norm":
        advantage_BGL = advantage_BGL * (weights_L / weights_L.mean())
    return advantage_BGL
