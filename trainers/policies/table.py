"""The embedding matrix in one pass: everything that reads it adds its gradient to one matrix, not each to one of its own.

Prompt tokens, identifier tokens and the heads are rows of one matrix. torch gives each of these reads a gradient of the
matrix's size, zeros but for the rows read, and adds them up: for a GPT-2 three times 158 MB, a tenth of a step's CPU time. Here a
pass has one such matrix, and each read adds its rows to it. On a CPU alone: a GPU would add rows in no particular order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Table:
    """Rows of ``weight_VD`` for whatever stands in one graph."""

    def __init__(self, weight_VD: Tensor) -> None:
        wanted = torch.is_grad_enabled() and weight_VD.requires_grad and weight_VD.device.type == "cpu"
        self._sum = _Sum(weight_VD) if wanted else None
        self._weight_VD: Tensor = _Whole.apply(weight_VD, self._sum) if wanted else weight_VD

    def rows(self, index: Tensor) -> Tensor:
        """[...] to [..., D]."""
        if self._sum is None or not torch.is_grad_enabled():
            return functional.embedding(index, self._weight_VD)
        found: Tensor = _Rows.apply(self._weight_VD, index, self._sum)
        return found

    def cut(self, first: int, end: int) -> Tensor:
        """[end - first, D]: the rows that lie there, not a copy."""
        if self._sum is None or not torch.is_grad_enabled():
            return self._weight_VD[first:end]
        found: Tensor = _Cut.apply(self._weight_VD, first, end, self._sum)
        return found


class _Sum:
    """The gradient of the matrix, as far as it has come in a backward pass."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._so_far_VD: Tensor | None = None

    def get(self) -> Tensor:
        """What the next read adds to."""
        if self._so_far_VD is None:
            self._so_far_VD = torch.zeros_like(self._like)
        return self._so_far_VD

    def take(self) -> Tensor | None:
        """All of it, None where nothing was added; the next backward pass begins anew."""
        found, self._so_far_VD = self._so_far_VD, None
        return found


class _Whole(torch.autograd.Function):
    """The matrix itself. Its backward pass comes after that of all reads, which hand it nothing and have added to the sum."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, total: _Sum) -> Tensor:
        ctx.total = total
        ctx.set_materialize_grads(False)
        return weight_VD.view_as(weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, None]:
        return ctx.total.take(), None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, index: Tensor, total: _Sum) -> Tensor:
        ctx.total = total
        ctx.save_for_backward(index)
        return functional.embedding(index, weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        (index,) = ctx.saved_tensors
        ctx.total.get().index_add_(0, index.reshape(-1), gradient.reshape(-1, gradient.shape[-1]))
        return None, None, None


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, first: int, end: int, total: _Sum) -> Tensor:
        ctx.total, ctx.first, ctx.end = total, first, end
        return weight_VD[first:end]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        ctx.total.get()[ctx.first : ctx.end] += gradient
        return None, None, None, None
