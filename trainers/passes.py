"""A step's gradient, pass by pass: each pass takes some of the prompts (or warm-start pairs) forward and backward.

A pass's loss counts by its share of the whole, so the sum of the gradients is that of one pass over everything. What metrics are
made of, a few numbers a prompt, is kept and put together: they are of the whole step, never means of parts. Letters as in
`trainers.policies.base`; N warm-start pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from schemas.examples import TrainingExample
from schemas.journal import StepIntent
from trainers.distinct import sample_distinct
from trainers.losses import Metrics, sft_loss
from trainers.noise import Noise
from trainers.objective import group_loss
from trainers.pairs import Pair, sids_of
from trainers.policies.base import EncoderState, Policy, PromptBatch, context_of
from trainers.policies.prompts import PromptBuilder
from trainers.rewards import GroupRewards
from trainers.rollout import Rollouts, sample
from trainers.settings import LossSettings
from trainers.targets import Targets
from trainers.tools import Tools

T = TypeVar("T")
Rows = Sequence[int]  #: places in the whole batch, or among the whole step's pairs


@dataclass(frozen=True)
class Groups:
    """The rollouts of some prompts and what they are worth."""

    rollouts: Rollouts
    rewards: GroupRewards
    logp_BGL: Tensor  #: recomputed, with gradient during the pass
    reference_BG: Tensor | None  #: log-probability under the warm start, where the objective needs it


@dataclass(frozen=True)
class Seen:
    """What the loss of some prompts is made of."""

    tokens_B: Tensor  #: of the prompts
    ce_BL: Tensor  #: of the first target, with gradient during the pass
    groups: Groups | None  #: None for a learner without rollouts


class Share(NamedTuple):
    """What the passes over a share of a step saw, each with its rows; without gradient."""

    prompts: list[tuple[Rows, Seen]]
    pairs: list[tuple[Rows, Tensor]]  #: ce_NL


@dataclass(frozen=True)
class Work:
    """A step: the same for whoever takes a share of it."""

    tools: Tools
    policy: Policy
    views: Sequence[TrainingExample]
    targets: Targets
    pairs: Sequence[Pair]
    intent: StepIntent

    def learn(self, first: int, every: int) -> Share:
        """Add the gradient of the prompts and pairs ``first``, ``first + every``, ... to the weights'.

        Raises:
            NotFinite: a probability or a loss.
        """
        settings, share = self.tools.settings, Share([], [])
        for rows in self._parts(len(self.views), first, every):
            seen = self._see(rows)
            loss, _ = loss_of(seen, self.targets.rows(rows), settings.loss)
            (loss * (len(rows) / len(self.views))).backward()  # type: ignore[no-untyped-call]
            share.prompts.append((rows, _detached(seen)))
        for rows in self._parts(len(self.pairs), first, every):
            pairs = [self.pairs[row] for row in rows]
            look_up(self.tools.builder, [pair.context.query for pair in pairs])
            prompts, sids_NL = self.tools.builder.build([pair.context for pair in pairs]), sids_of(pairs)
            with self._computing():
                ce_NL = self.policy.full_ce(prompts, sids_NL)
            (ce_NL.mean() * (settings.warm_start_weight * len(rows) / len(self.pairs))).backward()  # type: ignore[no-untyped-call]
            share.pairs.append((rows, ce_NL.detach()))
        return share

    def _parts(self, count: int, first: int, every: int) -> Iterator[Rows]:
        rows = range(count)[first::every]
        size = self.tools.settings.micro_batch or max(1, len(rows))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _see(self, rows: Rows) -> Seen:
        """Sample groups from the present policy, score what the loss needs of them, and reward them."""
        tools, settings = self.tools, self.tools.settings
        views = [self.views[row] for row in rows]
        prompts = prompts_of(tools.builder, views)
        with self._computing():
            encoder = self.policy.encode(prompts)
            ce_BL = self.policy.full_ce(encoder, self.targets.rows(rows).first_BL)
            if settings.loss.learner == "sft":
                return Seen(encoder.lengths_B, ce_BL, None)
            rollouts = self._draw(encoder, rows)
            logp_BGL = self.policy.logprobs(encoder, rollouts.sids_BGL, tools.trie, settings.temperature)
            reference_BG = self._reference(prompts, rollouts.sids_BGL)
        rates = tools.rates(self.intent.snapshot)
        rewards = tools.rewards.score(views, rollouts.leaf_BG.numpy(), self.intent.weights, rates)
        return Seen(encoder.lengths_B, ce_BL, Groups(rollouts, rewards, logp_BGL, reference_BG))

    def _draw(self, encoder: EncoderState, rows: Rows) -> Rollouts:
        settings = self.tools.settings
        noise = Noise(settings.seed, self.intent.random_counter, rows)
        what = (self.policy, encoder, self.tools.trie, settings.group, settings.temperature, noise)
        if settings.sampling == "without_replacement":
            return sample_distinct(*what)
        return sample(*what, drawn_at=settings.rollout_temperature)

    @torch.no_grad()
    def _reference(self, prompts: PromptBatch, sids_BGL: Tensor) -> Tensor | None:
        """Log-probability [B, G] of the rollouts under the warm start, where the objective needs it."""
        reference, settings = self.tools.reference, self.tools.settings
        if reference is None or not settings.loss.needs_reference:
            return None
        return reference.logprobs(prompts, sids_BGL, self.tools.trie, settings.temperature).sum(dim=-1)

    def _computing(self) -> torch.autocast:
        """The precision of the policy's products inside. Until it is left each weight is cast once, for rollouts too."""
        device = next(self.policy.module.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.tools.settings.precision == "bf16")


def loss_of(seen: Seen, targets: Targets, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """The objective of some prompts, a mean over them, without the warm-start pairs.

    Raises:
        NotFinite: a part of it.
    """
    supervised, metrics = sft_loss(seen.ce_BL, targets.any_B, settings.sft)
    if seen.groups is None:
        return supervised, metrics
    drawn = seen.groups.rollouts
    loss, values = group_loss(
        seen.groups.logp_BGL, drawn.sids_BGL, torch.from_numpy(seen.groups.rewards.reward_BG), targets, settings,
        seen.groups.reference_BG, drawn.weight_BG,
    )  # fmt: skip
    return loss + settings.beta_sft * supervised, metrics | values


def together(parts: Sequence[tuple[Rows, T]]) -> T:
    """Rows of parts as one, each in its place: tensors, arrays, and records of them."""
    order = np.argsort(np.concatenate([np.asarray(rows) for rows, _ in parts]))

    def joined(values: Sequence[Any]) -> Any:
        first = values[0]
        if first is None:
            return None
        if isinstance(first, Tensor):
            return torch.cat(list(values))[torch.from_numpy(order)]
        if isinstance(first, np.ndarray):
            return np.concatenate(values)[order]
        return type(first)(*(joined([getattr(value, f.name) for value in values]) for f in fields(first)))

    whole: T = joined([part for _, part in parts])
    return whole


def prompts_of(builder: PromptBuilder, views: Sequence[TrainingExample]) -> PromptBatch:
    """The prompts of page views."""
    look_up(builder, [view.query for view in views])
    return builder.build([context_of(view) for view in views])


def look_up(builder: PromptBuilder, queries: Sequence[str]) -> None:
    """Have the builder remember each query by itself: embedded in a batch, its last digits hang on its neighbours."""
    for query in dict.fromkeys(queries):
        builder.pieces([query])


def _detached(seen: Seen) -> Seen:
    groups = None if seen.groups is None else replace(seen.groups, logp_BGL=seen.groups.logp_BGL.detach())
    return replace(seen, ce_BL=seen.ce_BL.detach(), groups=groups)
