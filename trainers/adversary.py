"""Adversarial training of the embeddings by the fast gradient method (FGM, V2 Eq. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def perturbed(weight_VD: Tensor, epsilon: float) -> Iterator[None]:
    """Inside, the weight is moved by ``epsilon`` along its gradient, in the Euclidean norm of the whole; afterwards it is what it was, to
    the last bit. Where there is no gradient it stays. Where the output layer is tied to the embeddings, that moves with them.
    """
    before_VD, gradient_VD = weight_VD.detach().clone(), weight_VD.grad
    with torch.no_grad():
        if gradient_VD is not None and (norm := gradient_VD.norm()) > 0:
            weight_VD.add_(gradient_VD, alpha=epsilon / float(norm))
    try:
        yield
    finally:
        with torch.no_grad():
            weight_VD.copy_(before_VD)  # taking the step back would leave its rounding
