"""Losses: pure functions from named tensors to (scalar loss, metrics). No state, no logging, no randomness.

What these differ in from the paper is a parameter with the paper's value as its default. They do not
compute advantages, rewards or log-probabilities.
"""

from trainers.losses.distillation import distillation_loss, r_drop_loss
from trainers.losses.dpo import dpo_loss
from trainers.losses.grpo import grpo_loss
from trainers.losses.supervised import focal, sft_loss
from trainers.losses.terms import Metrics, finite, on_policy_ratio
from trainers.losses.tpma import tpma_loss

__all__ = [
    "Metrics",
    "distillation_loss",
    "dpo_loss",
    "finite",
    "focal",
    "grpo_loss",
    "on_policy_ratio",
    "r_drop_loss",
    "sft_loss",
    "tpma_loss",
]
