"""The gradient of oneDNN's product, which has none of its own in torch: two more such products.

Against MKL on a processor that is not Intel's, forward and backward take a half to a third of the time. The sums are in another
order than torch's, so results differ in the last digits; the same shapes on the same number of threads give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", variant: str = "") -> Tensor:
    """x @ weight.T + bias by oneDNN, without gradient. Either may lie the other way round in memory."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], variant)
    return out


class Product(torch.autograd.Function):
    """`product` with gradient, once: of x, of the weight, of the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[..., in] and [out, in] to [..., out]."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What is not asked for is not computed."""
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = product(gradient, weight.T, None) if wanted_x else None
        of_weight = _of_weight(rows, x.reshape(len(rows), -1), weight) if wanted_weight else None
        return of_x, of_weight, rows.sum(dim=0) if wanted_bias else None


def _of_weight(gradient_PO: Tensor, x_PI: Tensor, weight_OI: Tensor) -> Tensor:
    """gradient.T @ x, laid out as the weight is: another layout would be copied when it is added up."""
    if weight_OI.stride(0) == 1:
        return product(x_PI.T, gradient_PO.T, None).T
    return product(gradient_PO.T, x_PI.T, None)
