"""Random numbers of a batch's prompts: each prompt has a stream of its own, whoever shares its forward pass.

A stream is a stretch of Philox, a generator that counts (Salmon et al. 2011): its key is the run's seed and the step's counter, and
the highest word of its count is the prompt's place in the whole batch. So however a batch is permuted, split into
micro-batches or dealt out to ranks, a prompt meets the same numbers. Letters: B prompts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from schemas.errors import InvalidValue


class Noise:
    """The streams of B prompts. Like any generator it goes on: what was drawn does not come again."""

    def __init__(self, seed: int, counter: int, places: Iterable[int]) -> None:
        """``places``: of the prompts in the whole batch, from 0. The stretch before place 0 is `trainers.batches.draws`'."""
        key = np.array([seed, counter], dtype=np.uint64)
        counts = (np.array([0, 0, 0, 1 + place], dtype=np.uint64) for place in places)
        self._streams = [np.random.Generator(np.random.Philox(key=key, counter=count)) for count in counts]

    @classmethod
    def of(cls, noise: Noise | None, prompts: int) -> Noise:
        """``noise`` itself; for None, numbers that do not come again.

        Raises:
            InvalidValue: its streams are not as many as the prompts.
        """
        noise = noise or cls(secrets.randbits(64), secrets.randbits(64), range(prompts))
        if len(noise) != prompts:
            raise InvalidValue("streams of noise", len(noise), f"{prompts}, one a prompt", "give each prompt its place")
        return noise

    def __len__(self) -> int:
        return len(self._streams)

    def uniform(self, *shape: int) -> Tensor:
        """float64 [B, *shape], in (0, 1]: never 0, so that what has no probability is never chosen."""
        return torch.from_numpy(np.stack([1 - stream.random(shape) for stream in self._streams]))

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel noise, float64 [B, *shape]."""
        return torch.from_numpy(np.stack([stream.standard_exponential(shape) for stream in self._streams])).log_().neg_()
