"""AdamW over a policy's weights, and what of it is saved."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import NotFinite
from trainers.mapped import written
from trainers.settings import LearnerSettings


class Optimiser:
    """Whole on every rank; `trainers.sharding` has the one that ranks divide among them."""

    def __init__(self, module: nn.Module, settings: LearnerSettings) -> None:
        self.module = module
        rate, decay = settings.learning_rate, settings.weight_decay
        self._adamw = torch.optim.AdamW(self._moved(), lr=rate, weight_decay=decay, fused=True)

    def _moved(self) -> list[nn.Parameter]:
        """What AdamW moves."""
        return list(self.module.parameters())

    def adopt(self, settings: LearnerSettings) -> None:
        """Go on at these settings' rate: a file brings its own."""
        for group in self._adamw.param_groups:
            group.update(lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def update(self, max_norm: float) -> float:
        """Bound the norm of the gradient that lies with the weights, and step. Returns the norm before it was bounded.

        Raises:
            NotFinite: the norm; nothing has moved.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), max_norm)
        if not torch.isfinite(norm):
            raise NotFinite(f"the gradient's norm is {norm.item()}", "lower the learning rate, or resume from a checkpoint")
        self._step()
        return float(norm)

    def _step(self) -> None:
        self._adamw.step()

    def dump(self) -> memoryview:
        """Moments and count of steps; the same file whoever held which part. While rank 0 calls it, the others call `hand_in`."""

        def save(path: Path) -> None:
            with path.open("wb") as file:  # given a path torch would write its name into the file
                torch.save(self._whole_state(), file)

        return written(save)

    def hand_in(self) -> None:
        """Give rank 0 what it has not for `dump`: nothing, where each has all."""

    def _whole_state(self) -> dict[str, Any]:
        return self._adamw.state_dict()

    def load(self, data: bytes) -> None:
        """What `dump` gave; of nothing (b"") a fresh start at the present rate.

        Raises:
            RuntimeError, ValueError, KeyError: it cannot be read, or is of other parameters.
        """
        rates = [(group["lr"], group["weight_decay"]) for group in self._adamw.param_groups]
        self._adamw.state.clear()
        if data:
            self._adamw.load_state_dict(self._own_state(torch.load(io.BytesIO(data), weights_only=True)))
        for group, (rate, decay) in zip(self._adamw.param_groups, rates, strict=True):
            group.update(lr=rate, weight_decay=decay)

    def _own_state(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def put(self, weights: nn.Module) -> None:
        """Take over the weights and buffers of a module of the same shape."""
        with torch.no_grad():
            for own, given in zip(self.module.buffers(), weights.buffers(), strict=True):
                own.copy_(given)
            self._put(list(weights.parameters()))

    def _put(self, weights: Sequence[Tensor]) -> None:
        for own, given in zip(self.module.parameters(), weights, strict=True):
            own.copy_(given)
