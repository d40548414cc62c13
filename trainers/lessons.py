"""The supervised objective of an update, self-distillation and what goes with it included (V2 Eq. 8).

Teacher and student are one model: the teacher reads the prompt with the query's keywords, without dropout and without a gradient.
Each part is off where its weight is 0, and then costs no pass.

Beside the paper, whose model has met prompts with keywords in the stages before: a model from scratch can learn from them in the same
update (``told``), as nobody teaches well from words that he has never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trainers.adversary import perturbed
from trainers.losses import distillation_loss, focal, r_drop_loss
from trainers.pairs import Pair, sids_of
from trainers.policies.base import Policy, PromptBatch
from trainers.policies.levels import code_ce
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import WarmStartSettings

#: Keywords of a query, which the teacher sees.
KeywordsOf = Callable[[str], Sequence[str]]


def lesson(
    policy: Policy,
    pairs: Sequence[Pair],
    builder: PromptBuilder,
    settings: WarmStartSettings,
    keywords_of: KeywordsOf | None,
) -> float:
    """Add the gradient of CE + a_KL KL + a_R R-Drop + (CE + a_KL KL of perturbed embeddings) to the policy's, and of the CE that is
    ``told``, which has its part in the direction of the perturbation; returns the mean cross-entropy under the prompts as they are,
    nats a code.

    Raises:
        NotFinite: a distillation or R-Drop loss.
        ValueError: there are no keywords and the settings ask for them.
    """
    contexts = [pair.context for pair in pairs]
    prompts, sids_BL, with_keywords, teacher_BLV = builder.build(contexts), sids_of(pairs), None, None
    if settings.teaches:
        if keywords_of is None:
            raise ValueError("distillation and told need keywords")
        with_keywords = builder.build([replace(one, keywords=tuple(keywords_of(one.query))) for one in contexts])
        teacher_BLV = _taught(policy, with_keywords, sids_BL) if settings.distillation else None

    def supervised(logits_BLV: Tensor) -> tuple[Tensor, Tensor]:
        ce_BL = code_ce(logits_BLV, sids_BL, policy.tokenizer.level_start, settings.label_smoothing)
        return (focal(ce_BL) if settings.loss == "focal" else ce_BL).mean(), ce_BL.detach().mean()

    def objective(logits_BLV: Tensor) -> tuple[Tensor, Tensor]:
        loss, ce = supervised(logits_BLV)
        if teacher_BLV is not None:
            loss = loss + settings.distillation * distillation_loss(teacher_BLV, logits_BLV, settings.distillation_tau)[0]
        return loss, ce

    logits_BLV = policy.full_logits(prompts, sids_BL)
    loss, ce = objective(logits_BLV)
    if settings.told and with_keywords is not None:
        loss = loss + settings.told * supervised(policy.full_logits(with_keywords, sids_BL))[0]
    if settings.r_drop:
        loss = loss + settings.r_drop * r_drop_loss(logits_BLV, policy.full_logits(prompts, sids_BL))[0]
    loss.backward()  # type: ignore[no-untyped-call]
    if settings.adversarial:
        with perturbed(policy.embeddings(), settings.adversarial):
            objective(policy.full_logits(prompts, sids_BL))[0].backward()  # type: ignore[no-untyped-call]
    return float(ce)


@torch.no_grad()
def _taught(policy: Policy, prompts: PromptBatch, sids_BL: Tensor) -> Tensor:
    training = policy.module.training
    policy.module.eval()
    try:
        return policy.full_logits(prompts, sids_BL)
    finally:
        policy.module.train(training)
