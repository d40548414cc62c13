"""Warm start: supervised training on pairs before the stream begins, by cross-entropy over the whole vocabulary and what `trainers.lessons` adds to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from schemas.errors import LearningError
from trainers.lessons import KeywordsOf, lesson
from trainers.pairs import PairSampler
from trainers.policies.base import Policy
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import WarmStartSettings


@dataclass(frozen=True)
class WarmStartProgress:
    """Where a warm start stands. ``loss`` is nats per code, the mean since the report before."""

    step: int
    share: float  #: of the budget, 0 to 1
    loss: float
    seconds: float


@dataclass(frozen=True)
class WarmStartReport:
    """What a warm start did: every progress report, in order."""

    history: tuple[WarmStartProgress, ...]

    @property
    def steps(self) -> int:
        """Updates made."""
        return self.history[-1].step if self.history else 0

    @property
    def loss(self) -> float:
        """Last mean loss, nats per code."""
        return self.history[-1].loss if self.history else float("nan")


def warm_start(
    policy: Policy,
    sampler: PairSampler,
    builder: PromptBuilder,
    settings: WarmStartSettings,
    seed: int,
    progress: Callable[[WarmStartProgress], None] | None = None,
    keywords_of: KeywordsOf | None = None,
) -> WarmStartReport:
    """Train ``policy`` in place until the budget ends; leaves it in evaluation mode.

    With ``settings.seconds = 0`` the result is a function of (policy, sampler, settings, seed, keywords) for one thread count.

    Args:
        keywords_of: what the teacher sees of a query beside it; needed where ``settings.teaches``.

    Raises:
        LearningError: a loss or the gradient is not finite; the weights are those of the update before.
        ValueError: there are no keywords and the settings ask for them.
    """
    torch.set_num_threads(policy.settings.threads)
    parameters = list(policy.module.parameters())
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True
    )
    started, history, losses, step, share = time.monotonic(), [], [], 0, 0.0
    policy.module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while share < 1:
            optimiser.param_groups[0]["lr"] = settings.learning_rate * rate_factor(share, settings.warm_up)
            optimiser.zero_grad()
            losses.append(lesson(policy, sampler.batch(step, settings.batch), builder, settings, keywords_of))
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip))
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                what = f"warm start: loss {losses[-1]}, norm of the gradient {norm} at step {step}"
                raise LearningError(what, "lower trainers.warm_start.learning_rate")
            optimiser.step()
            step += 1
            share = _share(settings, step, time.monotonic() - started)
            if step % settings.report_every == 0 or share >= 1:
                history.append(WarmStartProgress(step, share, sum(losses) / len(losses), time.monotonic() - started))
                losses = []
                if progress is not None:
                    progress(history[-1])
    policy.module.eval()
    return WarmStartReport(tuple(history))


def rate_factor(share: float, warm_up: float) -> float:
    """Linear rise over the first ``warm_up`` of the budget, then a straight fall to a twentieth of the peak."""
    rise = 1.0 if warm_up == 0 else min(1.0, (share + 0.01) / warm_up)
    return rise * (1 - 0.95 * max(0.0, share - warm_up) / max(1e-9, 1 - warm_up))


def _share(settings: WarmStartSettings, step: int, seconds: float) -> float:
    """How much of the budget is used: by time or by updates, whichever is further."""
    by_time = seconds / settings.seconds if settings.seconds else 0.0
    by_steps = step / settings.steps if settings.steps else 0.0
    return min(1.0, max(by_time, by_steps))
