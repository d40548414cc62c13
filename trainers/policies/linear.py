"""A linear layer that calls oneDNN where it is the faster one.

torch gives float32 products on a CPU to MKL, which on processors that are not Intel's reaches less than half of what oneDNN
does. On Intel's MKL is the faster one, by up to twice, in the products of the backward pass, and with a weight that lies the
other way round in memory, as GPT-2's do. bfloat16 goes to oneDNN in either case, this way by 5 % faster. An activation after it
is then computed on the product while it is still in cache, where no gradient is wanted (but not for many rows in bfloat16). The
call costs some 10 microseconds, so small products stay with torch's. The precision is the same, so results differ in the last
digits only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.policies.linear_grad import Product, product

#: Multiplications from which oneDNN is called: 64 rows of a base model's narrowest layer. It is the faster one from 2^20 on, but
#: keeps what it has prepared for every number of rows it meets: small models meet hundreds, and would pay in memory.
WORTH_IT = 1 << 25

#: Rows up to which, and numbers in the weight from which, a bfloat16 product is turned round, weight @ x.T. oneDNN lays its second
#: matrix out anew for every product: better few rows than a whole weight, which takes up to as long as the product itself.
FEW_ROWS, MANY_NUMBERS = 64, 1 << 18

#: Rows of a bfloat16 product from which its activation takes less time as a pass of its own than inside oneDNN's product.
MANY_ROWS = 512

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _of_intel(cpuinfo: Path) -> bool:
    """Whether this is a processor that MKL is made for; no where nothing says so."""
    return cpuinfo.exists() and "GenuineIntel" in cpuinfo.read_text()


MKL_IS_FASTER = torch.backends.mkl.is_available() and _of_intel(Path("/proc/cpuinfo"))  # type: ignore[no-untyped-call]


class Activation(NamedTuple):
    """A function of each number: torch's, and oneDNN's name and variant of it."""

    function: Callable[[Tensor], Tensor]
    onednn: tuple[str, str]


#: By the names that transformers' configurations give them.
ACTIVATIONS = {
    "gelu": Activation(functional.gelu, ("gelu", "none")),
    "gelu_new": Activation(partial(functional.gelu, approximate="tanh"), ("gelu", "tanh")),
    "relu": Activation(functional.relu, ("relu", "")),
}


class Linear(nn.Linear):
    """`torch.nn.Linear`, parameters and all."""

    def forward(self, x: Tensor, then: Activation | None = None) -> Tensor:
        """[..., in] to [..., out]."""
        return linear(x, self.weight, self.bias, then)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, then: Activation | None = None) -> Tensor:
    """`torch.nn.functional.linear`, ``then`` an activation, for a weight [out, in], which may lie the other way round in memory."""
    if _few_against_many(x, weight):
        out = turned_round(x, weight, bias)
    elif not _is_onednns(x, weight):
        out = functional.linear(x, weight, bias)
    elif torch.is_grad_enabled():
        out = Product.apply(x, weight, bias)
    elif then and not _many(x):
        return product(x, weight, bias, *then.onednn)
    else:
        out = product(x, weight, bias)
    return then.function(out) if then else out


def turned_round(x_PI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x @ weight.T + bias: [P, O]."""
    out_OP = torch.mm(weight_OI, x_PI.T) if bias_O is None else torch.addmm(bias_O[:, None], weight_OI, x_PI.T)
    return out_OP.T.contiguous()


def _is_onednns(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is the faster one, and can."""
    by_mkl = MKL_IS_FASTER and x.dtype == torch.float32 and (torch.is_grad_enabled() or not weight.is_contiguous())
    return _HAS_ONEDNN and not by_mkl and x.numel() * weight.shape[0] >= WORTH_IT and _plain(x, weight)


def _few_against_many(x: Tensor, weight: Tensor) -> bool:
    """Rows of x against a weight that lies as it is multiplied, without gradient."""
    few = x.dim() == 2 and len(x) <= FEW_ROWS and weight.numel() >= MANY_NUMBERS and weight.is_contiguous()
    return few and x.dtype == torch.bfloat16 and not torch.is_grad_enabled() and _plain(x, weight)


def _many(x: Tensor) -> bool:
    """Rows of which the activation is better not computed inside the product."""
    return x.dtype == torch.bfloat16 and x.numel() >= MANY_ROWS * x.shape[-1]


def _plain(x: Tensor, weight: Tensor) -> bool:
    """On a CPU, of one precision, nothing to cast."""
    same = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16) and x.device.type == "cpu"
    return same and not torch.is_autocast_enabled("cpu")
