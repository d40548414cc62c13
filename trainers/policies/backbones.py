"""The three backbones by name, and a policy as the settings ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from schemas.errors import Incompatible
from trainers.policies.bart import BartPolicy
from trainers.policies.decoder_only import Gpt2Policy, Qwen3Policy
from trainers.policies.geometry import Centroids
from trainers.policies.levels import LevelPolicy
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import PromptTokenizer

BACKBONES: Final[dict[str, type[LevelPolicy]]] = {kind.backbone: kind for kind in (BartPolicy, Gpt2Policy, Qwen3Policy)}


def backbone(name: str, where: str) -> type[LevelPolicy]:
    """The policy class of that name; ``where`` is what the error speaks of.

    Raises:
        Incompatible: there is no such backbone.
    """
    if name not in BACKBONES:
        raise Incompatible(
            where, " | ".join(BACKBONES), name, "use a version of Headrace, or a folder, that has one of these"
        )
    return BACKBONES[name]


def new_policy(
    settings: PolicySettings,
    texts: Iterable[str],
    level_sizes: Sequence[int],
    codebook_version: str,
    dense_width: int,
    seed: int,
    centroids: Centroids,
) -> LevelPolicy:
    """The policy that a warm start begins with: from scratch, its text pieces learned from ``texts``, or a pretrained one.

    Raises:
        Unavailable, Corrupt, Incompatible, InvalidSetting: the pretrained folder cannot be used.
        InvalidValue: centroids that do not have one row for every code.
    """
    if settings.pretrained:
        from trainers.policies.pretrained import adopt

        return adopt(settings, level_sizes, codebook_version, dense_width, seed, centroids)
    tokenizer = PromptTokenizer.train(texts, level_sizes, settings.text_vocabulary)
    kind = backbone(settings.backbone, "trainers.policy.backbone")
    return kind.create(settings, tokenizer, codebook_version, dense_width, seed, centroids)
