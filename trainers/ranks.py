"""The processes that take a learner's steps together: what one tells all, and sums of gradients.

Rank 0 is the learner; the others follow it (`trainers.follower`). They meet through torch.distributed, as torchrun's environment
says (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). A rank that ends, or does not answer in time, ends the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
import torch
import torch.distributed as dist
from torch import Tensor

from schemas.errors import Unavailable

#: Numbers that are added up at once, about: 16 MiB.
AT_ONCE = 1 << 22


class Ranks:
    """A process that is alone; `Joined` ones are more."""

    rank = 0
    size = 1

    def exchange(self, own: Any) -> list[Any]:
        """What every rank hands in, in their order. All call it, or none."""
        return [own]

    def sum(self, flat: Tensor) -> Tensor:
        """The sum over ranks, added up in their order, so that one process that adds up as many shares gets the same bits."""
        return flat

    def close(self) -> None:
        """Leave."""


ALONE = Ranks()


class Joined(Ranks):
    """One of several processes."""

    def __init__(self, timeout_s: float) -> None:
        """Wait for the others, and let every log line say which rank it is of.

        Raises:
            Unavailable: they do not come in time.
        """
        with answering():
            dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        structlog.contextvars.bind_contextvars(rank=self.rank)

    def exchange(self, own: Any) -> list[Any]:
        """As `Ranks.exchange`.

        Raises:
            Unavailable: a rank has ended, or does not answer in time.
        """
        found: list[Any] = [None] * self.size
        with answering():
            dist.all_gather_object(found, own)
        return found

    def sum(self, flat: Tensor) -> Tensor:
        """As `Ranks.sum`. Two numbers have the same sum in either order; more are first brought together, each rank's part.

        Raises:
            Unavailable: a rank has ended, or does not answer in time.
        """
        with answering():
            if self.size == 2:
                dist.all_reduce(flat)
                return flat
            part = -(-len(flat) // self.size)
            padded = torch.cat([flat, flat.new_zeros(part * self.size - len(flat))])
            theirs = torch.empty_like(padded)
            dist.all_to_all_single(theirs, padded)
            first, *others = theirs.view(self.size, part)
            for other in others:
                first += other
            dist.all_gather_into_tensor(padded, first)
            return padded[: len(flat)]

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()
        structlog.contextvars.unbind_contextvars("rank")


def ranks_here(timeout_s: float) -> Ranks:
    """What the environment says: alone, or one of several.

    Raises:
        Unavailable: the others do not come in time.
    """
    return Joined(timeout_s) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE


@contextmanager
def answering() -> Iterator[None]:
    """Raises Unavailable where gloo says that another rank is gone or silent."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo's; dist.DistError is a RuntimeError
        remedy = (
            "this one ends too; start all ranks again, and they resume (trainers.learner.ranks_timeout_s bounds the wait)"
        )
        raise Unavailable("another rank of the learner", _said(error), remedy) from error


def _said(error: Exception) -> str:
    """The first sentence of what gloo says, without the place in its source."""
    return re.sub(r"^\[[^]]*\] *", "", str(error).splitlines()[0]).partition(". ")[0]


def flat_of(parameters: Sequence[torch.nn.Parameter]) -> Tensor:
    """All gradients in one row; zeros where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])


def parts_of(parameters: Sequence[torch.nn.Parameter]) -> list[slice]:
    """Runs of parameters whose gradients are added up at once: few calls for small weights, no second copy of large ones."""
    parts, first, numbers = [], 0, 0
    for at, parameter in enumerate(parameters):
        numbers += parameter.numel()
        if numbers >= AT_ONCE:
            parts.append(slice(first, at + 1))
            first, numbers = at + 1, 0
    return [*parts, slice(first, len(parameters))] if numbers else parts
