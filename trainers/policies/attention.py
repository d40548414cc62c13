"""Scaled dot-product attention by the faster of two ways of the same mathematics.

torch's fused kernel makes bfloat16 products on a CPU without oneDNN, one small matrix at a time: two to eight times
slower than two batched products with a softmax between them, which keep the scores and so serve passes without gradient.
With tiles (AMX) it is the faster one, by a quarter or more, but for a handful of queries.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Queries up to which two products are ahead of the fused kernel with tiles; a single one is not.
HANDFUL = 16

HAS_TILES = bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def attention(query_BHQC: Tensor, key_BHXC: Tensor, value_BHXC: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """[B, H, Q, C]. ``bias``, broadcast to [B, H, Q, X], is added to the scaled scores."""
    bias = None if bias is None else bias.to(query_BHQC.dtype)
    on_cpu = query_BHQC.dtype == torch.bfloat16 and query_BHQC.device.type == "cpu" and not torch.is_grad_enabled()
    two_products_are_faster = on_cpu and (not HAS_TILES or 1 < query_BHQC.shape[2] <= HANDFUL)
    if not two_products_are_faster:
        return functional.scaled_dot_product_attention(query_BHQC, key_BHXC, value_BHXC, attn_mask=bias, scale=scale)
    query, key, value = (part.flatten(0, 1) for part in (query_BHQC, key_BHXC, value_BHXC))
    if bias is None:
        bias = query.new_zeros(1, 1, 1, 1)
    added = bias.expand(*query_BHQC.shape[:2], -1, -1).flatten(0, 1)
    share = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale).softmax(dim=-1)
    return torch.bmm(share, value).view(query_BHQC.shape)


def add_mixed(mixed: Tensor, share_T: Tensor, value_TC: Tensor) -> Tensor:
    """``mixed`` [..., C], to which a handful of values [..., T, C], each times its share [..., T], is added in place.

    Position by position: a sum over an axis so short takes three times as long.
    """
    for share, value_C in zip(share_T.unbind(-1), value_TC.unbind(-2), strict=True):
        mixed.addcmul_(share[..., None], value_C)
    return mixed
