"""What is served of what was learned: weights between the warm start's and the learner's own.

Each weight of the policy that is published is ``start + share * (learned - start)`` (weight-space ensembles, Wortsman et al.
2022, "WiSE-FT"; not in the paper). What was learned about one query is noise about the next: in between it is averaged out, and what the warm
start knew of queries that the stream never brought stays. The learner goes on from its own weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

from schemas.checkpoints import Manifest
from schemas.store import Store
from trainers import checkpoints
from trainers.policies import load_policy
from trainers.policies.base import Policy


class Start:
    """The warm start that a line of training began with; its weights are read when first asked for."""

    def __init__(self, store: Store, checkpoint: str) -> None:
        self._store, self.checkpoint = store, checkpoint

    @cached_property
    def weights(self) -> list[Tensor]:
        """In the order of a policy's parameters.

        Raises:
            Unavailable, Corrupt: the checkpoint is not whole.
        """
        checkpoints.verify(self._store, self.checkpoint)
        policy = load_policy(checkpoints.policy_folder(self._store, self.checkpoint))
        return [weight.detach() for weight in policy.module.parameters()]


def start_of(store: Store, manifest: Manifest) -> Start:
    """The start of a checkpoint's line.

    Raises:
        Unavailable, Corrupt: a manifest of the line, where the checkpoint does not name its start itself.
    """
    while not manifest.start and manifest.parent:
        manifest = checkpoints.read(store, manifest.parent)
    return Start(store, manifest.start or manifest.checkpoint)


@contextmanager
def as_served(policy: Policy, start: Start, share: float) -> Iterator[None]:
    """Inside, the policy has the weights that are served; afterwards its own again, to the last bit."""
    if share == 1:
        yield
        return
    weights = list(policy.module.parameters())
    learned = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, begin in zip(weights, start.weights, strict=True):
                weight.copy_(begin.lerp(weight, share))
        yield
    finally:
        with torch.no_grad():
            for weight, own in zip(weights, learned, strict=True):
                weight.copy_(own)
