"""A linear layer that calls oneDNN where it is the faster one.

torch gives float32 products on a CPU to MKL, which on processors that are not Intel's reaches less than half of what oneDNN
does; bfloat16 goes to oneDNN in either case, this way by 5 % faster. The call costs some 10 microseconds and has no gradient
here, so small products and passes with gradient stay with torch's. The precision is the same, so results differ in the last
digits only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Multiplications from which oneDNN is called: 64 rows of a base model's narrowest layer. It is the faster one from 2^20 on, but
#: keeps what it has prepared for every number of rows it meets: small models meet hundreds, and would pay in memory.
WORTH_IT = 1 << 25

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`torch.nn.Linear`, parameters and all."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` for a weight [out, in], which may lie the other way round in memory."""
    if _HAS_ONEDNN and x.numel() * len(weight) >= WORTH_IT and _plain(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


def _plain(x: Tensor, weight: Tensor) -> bool:
    """On a CPU, of one precision, nothing to record and nothing to cast."""
    same = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16) and x.device.type == "cpu"
    return same and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
