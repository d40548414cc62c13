"""TRL's GRPOTrainer over a `Work`: what its user would set on a CPU, and its own code for everything else.

Set: no gradient checkpointing (TRL's default recomputes every activation), no dropout, float32, one optimiser step a batch of
rollouts, no reference model, micro-batches that stay in the caches.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from benchmarks.trl_peer.models import Bart, Catalogue, Gpt2
from benchmarks.trl_peer.work import Arrays, Work, reward

MODELS = {"GPT2LMHeadModel": Gpt2, "BartForConditionalGeneration": Bart}


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose prompts are given as tokens, so that nobody pays for tokenising."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [[int(token) for token in prompt.split()] for prompt in prompts], None, {}


class Peer:
    """A trainer with its model and what it is asked to learn from."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        self._work, arrays = work, Arrays.read(work.arrays)
        model = MODELS[work.opens].from_pretrained(work.model, attn_implementation="sdpa")
        model.catalogue = Catalogue(arrays.catalogue_NL.tolist())
        rows, levels = arrays.rollout_BGL.shape[0] * work.group, arrays.rollout_BGL.shape[2]
        prompt_BS = arrays.prompt_BS
        if not model.config.is_encoder_decoder:  # the start token follows the prompt
            prompt_BS = np.pad(prompt_BS, ((0, 0), (0, 1)), constant_values=work.bos)
        texts = [" ".join(map(str, tokens)) for tokens in prompt_BS.tolist()]
        self._batch = [{"prompt": text} for text in texts for _ in range(work.group)]
        self._parts = rows // work.micro
        self._trainer = _trainer(work, model, Dataset.from_dict({"prompt": texts}), self._parts, levels)
        self._given = self._inputs(torch.from_numpy(prompt_BS), torch.from_numpy(arrays.rollout_BGL))
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=work.learning_rate, weight_decay=0.0, fused=True
        )  # fmt: skip

    def update(self) -> float:
        """Forward and backward of the given rollouts; the loss."""
        trainer, loss = self._trainer, 0.0
        trainer.model.zero_grad(set_to_none=True)
        for part in range(self._parts):
            rows = slice(part * self._work.micro, (part + 1) * self._work.micro)
            inputs = {name: value[rows] if value.dim() else value for name, value in self._given.items()}
            one = trainer.compute_loss(trainer.model, inputs)
            trainer.accelerator.backward(one)
            loss += float(one.detach())
        return loss

    def check(self) -> dict[str, Any]:
        """Loss, gradient's norm and log-probabilities of the given rollouts."""
        scored: list[Tensor] = []
        keep = self._trainer.model.register_forward_hook(lambda model, *_: scored.append(model.scored))
        loss = self.update()
        keep.remove()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._trainer.model.parameters() if p.grad is not None])
        return {"loss": loss, "norm": float(norm), "logp": torch.cat(scored).flatten().tolist()}

    def step(self) -> None:
        """Rollouts, rewards, update: TRL's training step for each part, then the optimiser's."""
        trainer = self._trainer
        trainer.model.zero_grad(set_to_none=True)
        for _ in range(self._parts):
            trainer.training_step(trainer.model, self._batch, None)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), self._work.max_grad_norm)
        self._optimiser.step()

    def _inputs(self, prompt_BS: Tensor, rollout_BGL: Tensor) -> dict[str, Tensor]:
        """What `_generate_and_score_completions` gives, with its advantages, for given rollouts."""
        reward_BG = torch.from_numpy(reward(rollout_BGL.numpy())).float()
        centred_BG = reward_BG - reward_BG.mean(dim=1, keepdim=True)
        advantage_BG = centred_BG / (reward_BG.std(dim=1, keepdim=True) + 1e-4)
        prompt_RS, sids_RL = prompt_BS.repeat_interleave(self._work.group, dim=0), rollout_BGL.flatten(0, 1)
        return {
            "prompt_ids": prompt_RS, "prompt_mask": torch.ones_like(prompt_RS),
            "completion_ids": sids_RL, "completion_mask": torch.ones_like(sids_RL),
            "advantages": advantage_BG.flatten(), "num_items_in_batch": torch.tensor(sids_RL.numel()),
        }  # fmt: skip


def _trainer(work: Work, model: Any, prompts: Dataset, parts: int, levels: int) -> Trainer:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(work.model / "tokenizer.json"), pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )  # fmt: skip
    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl-", dir=work.folder), use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, disable_dropout=True, per_device_train_batch_size=work.micro,
        gradient_accumulation_steps=parts, steps_per_generation=parts, num_generations=work.group,
        max_completion_length=levels, temperature=1.0, top_k=0, top_p=1.0, beta=0.0, loss_type="grpo", scale_rewards="group",
    )  # fmt: skip

    def rewarded(completion_ids: list[list[int]], **_: Any) -> list[float]:
        scores: list[float] = reward(np.array(completion_ids)).tolist()
        return scores

    trainer = Trainer(model=model, reward_funcs=rewarded, args=settings, train_dataset=prompts, processing_class=tokenizer)
    del trainer.model.forward  # the fused head that TRL put before the adapter's
    trainer.current_gradient_accumulation_steps = parts
    trainer.model.train()  # without dropout: the loss is divided by the number of parts
    return trainer
