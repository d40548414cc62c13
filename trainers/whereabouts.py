"""How far the policy has come from its warm start, and how often it writes an identifier of the catalogue without being made to.

Neither shapes a gradient, and each costs passes of its own, so they are measured at some steps only
(`trainers.learner.whereabouts_every_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
import torch

from schemas.errors import NotFinite
from schemas.examples import TrainingExample
from trainers.noise import Noise
from trainers.passes import prompts_of
from trainers.policies.base import Policy
from trainers.rollout import sample
from trainers.served import Start, as_served
from trainers.state import LearnerState
from trainers.tools import Tools
from trainers.validity import valid_sid_rate

log = structlog.get_logger()

#: Page views that are looked at, at most.
VIEWS = 16
#: What is told.
KL, VALID = "kl_warm_start", "valid_sids"
NAMES: Final = (KL, VALID)


def whereabouts(
    state: LearnerState, views: Sequence[TrainingExample], tools: Tools, told: Mapping[str, float]
) -> dict[str, float]:
    """After a step of these page views, where the settings ask for it at this step; else nothing. Nor what the step has ``told``
    itself: with a reference policy it knows its distance, and does so at every step.
    """
    every = tools.settings.whereabouts_every_steps
    if not every or state.step % every or not views or state.start is None:
        return {}
    try:
        start = None if KL in told else state.start
        return measured(state.policy, start, views[:VIEWS], tools, state.step)
    except NotFinite as error:
        log.error("no whereabouts", step=state.step, error=str(error))
        return {}


@torch.no_grad()
def measured(
    policy: Policy, start: Start | None, views: Sequence[TrainingExample], tools: Tools, counter: int
) -> dict[str, float]:
    """Of some page views' prompts: `kl_warm_start`, nats an identifier, the mean of log (policy / warm start) over rollouts of the
    policy (without ``start`` not); and `valid_sids`, the share of greedy decodes over the whole vocabulary that are identifiers of the
    catalogue.

    ``counter``: of the rollouts' random numbers. The policy is as before afterwards, to the last bit.

    Raises:
        NotFinite: a probability.
    """
    settings, prompts = tools.settings, prompts_of(tools.builder, views)
    valid = {VALID: valid_sid_rate(policy, prompts, tools.trie)}
    if start is None:
        return valid
    noise = Noise(settings.seed, counter, range(len(prompts)))
    encoder = policy.encode(prompts)
    sids_BGL = sample(policy, encoder, tools.trie, settings.group, settings.temperature, noise).sids_BGL
    now_BG = policy.logprobs(encoder, sids_BGL, tools.trie, settings.temperature).sum(dim=-1)
    with as_served(policy, start, 0.0):
        then_BG = policy.logprobs(prompts, sids_BGL, tools.trie, settings.temperature).sum(dim=-1)
    return valid | {KL: float((now_BG - then_BG).mean())}
