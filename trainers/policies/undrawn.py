"""Modules whose numbers come from a file: nothing is drawn for what is overwritten at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset({init.normal_, init.uniform_, init.kaiming_uniform_, torch.Tensor.normal_, torch.Tensor.uniform_})


class Undrawn(TorchFunctionMode):
    """Inside it random initialisers leave memory as they find it, and torch's generator where it is.

    Drawing is a good part of what it costs to open a checkpoint, while searches wait. The meta device is no way round: there each
    draw is worked out by Python.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWS:
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)
