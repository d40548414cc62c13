"""What every backbone does alike: heads of one level, the restricted log-probabilities, the SFT term, the folder.

A backbone brings the passes (`encode`, `step`, `tree_hidden`) and its output matrix. A level's head is a slice of that
matrix; where few of a level's codes may follow, only theirs are computed, forward and backward. The whole vocabulary is
computed for the SFT term alone. Nothing of size [B, G, L, V] is ever made: the heads run on distinct prefixes.
Letters as in `trainers.policies.base`; P distinct prefixes, A allowed children of all of them together.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainers.identifiers.trie import Trie
from trainers.policies import folder as folders
from trainers.policies.base import Ahead, Cache, DecodeState, EncoderState, PromptBatch
from trainers.policies.geometry import fresh_projection, identifiers_at_centroids
from trainers.policies.linear import linear
from trainers.policies.packing import PrefixTree, pack
from trainers.policies.restricted import TrieTables, check_levels, check_temperature, in_float32, restricted_logp
from trainers.policies.settings import PolicySettings
from trainers.policies.slots import Slots
from trainers.policies.steps import Step
from trainers.policies.table import Table
from trainers.policies.tokenizer import PromptTokenizer
from trainers.policies.undrawn import Undrawn

#: A level's whole head is one matrix product; a child whose row is gathered costs that many times more (measured on one
#: thread, forward and backward, K = 128 and 256, D = 128 and 768: equal at 20 to 32).
GATHER_COST = 32


class Head(NamedTuple):
    """A level's rows of the output layer."""

    weight_KD: Tensor
    bias_K: Tensor | None


class LevelPolicy(nn.Module, ABC):
    """Base of the policies. ``dense`` projects what enters a prompt as vectors (`trainers.policies.slots`)."""

    model: Any  #: an ``nn.Module``, with its ``shape``
    backbone: ClassVar[str]
    model_type: ClassVar[type[Any]]  #: fresh parameters of a shape
    shape_type: ClassVar[Any]  #: what config.json says, with ``load`` and ``save``
    dropout_name: ClassVar[str]  #: the shape's field for ``settings.dropout``

    def __init__(
        self, model: nn.Module, tokenizer: PromptTokenizer, settings: PolicySettings, version: str, dense: Slots
    ) -> None:
        super().__init__()
        self.model, self.dense = model, dense
        self.tokenizer, self.settings, self.codebook_version = tokenizer, settings, version

    @classmethod
    def create(
        cls,
        settings: PolicySettings,
        tokenizer: PromptTokenizer,
        codebook_version: str,
        dense_width: int,
        seed: int,
        centroids: Sequence[NDArray[np.float32]] | None = None,
    ) -> Self:
        """A policy from scratch, in evaluation mode; the same seed gives the same weights.

        ``centroids``: per level [K, E] in the space of the dense query vector, from which identifier embeddings start
        (narrower ones are taken as coordinates of their own). Without them identifiers start at random.

        Raises:
            InvalidValue: centroids that do not have one row for every code.
        """
        shape = cls.fresh_shape(settings, tokenizer)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = cls.model_type(shape)
            policy = cls(model, tokenizer, settings, codebook_version, slots_of(dense_width, settings))
            fresh_projection(policy.dense, settings.init_std)
            identifiers_at_centroids(policy.output()[0], policy.dense, tokenizer, settings.init_std, centroids)
        return policy.eval()

    @classmethod
    def load(cls, folder: Path, about: folders.About) -> Self:
        """From a folder that `save` wrote; use `trainers.policies.load_policy`, which reads ``about`` first."""
        tokenizer = PromptTokenizer.load(folder / "model")
        shape = cls.shape_type.load(folder / "model")
        with Undrawn():
            model, dense = cls.model_type(shape), slots_of(about.dense_width, about.settings)
        folders.load_weights(model, folder / "model" / "model.safetensors", repeated=model.repeated)
        folders.load_weights(dense, folder / folders.EXTRA)
        return cls(model, tokenizer, about.settings, about.codebook_version, dense).eval()

    def with_weights(self, folder: Path) -> Self:
        """This policy with the weights of a folder that `save` wrote of one with the same tokenizer, shape and settings.

        Raises:
            Corrupt: they do not fit.
        """
        made = copy.copy(self)
        made._modules = {
            "model": folders.reweighted(self.model, folder / "model" / "model.safetensors", repeated=self.model.repeated),
            "dense": folders.reweighted(self.dense, folder / folders.EXTRA),
        }
        return made

    @staticmethod
    @abstractmethod
    def fresh_shape(settings: PolicySettings, tokenizer: PromptTokenizer) -> Any:
        """The shape that the settings ask for."""

    @staticmethod
    @abstractmethod
    def sizes(shape: Any) -> dict[str, Any]:
        """The settings that describe a shape."""

    @abstractmethod
    def encode(self, prompts: PromptBatch) -> EncoderState:
        """Read B prompts once."""

    @abstractmethod
    def step(self, state: DecodeState, step: Step) -> tuple[Tensor, list[list[Cache]]]:
        """One pass of decoding: (hidden_PD that predicts the next level, every layer's keys and values as `Step.lengthened` gives them)."""

    @abstractmethod
    def tree_hidden(self, state: EncoderState, tree: PrefixTree) -> Tensor:
        """hidden_PD: of every distinct prefix, what predicts the code after it, with gradient."""

    @abstractmethod
    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""

    @abstractmethod
    def output(self) -> tuple[Tensor, Tensor | None]:
        """weight_VD and bias_V of the output layer."""

    @property
    def module(self) -> nn.Module:
        """Itself: all parameters."""
        return self

    def advance(self, state: DecodeState, codes_BR: Tensor | None) -> tuple[Tensor, DecodeState]:
        """One step of decoding: (hidden_BRD that predicts the next level, the longer state)."""
        return self._advance(state, codes_BR, None)[0]

    def advance_twice(
        self, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead
    ) -> tuple[tuple[Tensor, DecodeState], tuple[Tensor, DecodeState]]:
        """`advance`, and `advance` from there of the rows ``ahead``, in one pass."""
        here, further = self._advance(state, codes_BR, ahead)
        return here, further

    def _advance(self, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead | None) -> list[tuple[Tensor, DecodeState]]:
        step = Step.of(state, codes_BR, ahead, self.tokenizer.bos, self.tokenizer.level_start)
        return step.results(state, *self.step(state, step))

    def teacher_forced(self, state: EncoderState, sids_BGL: Tensor) -> Tensor:
        """hidden_BGLD that predicts every level of given identifiers, in one pass, with gradient."""
        tree = pack(sids_BGL, self.tokenizer.level_sizes)
        return tree.spread(self.tree_hidden(state, tree))

    def table(self, state: EncoderState | None) -> Table:
        """The embeddings, as the pass that made the state reads them."""
        return Table(self.embeddings()) if state is None or state.table is None else state.table

    def level_logits(self, level: int, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., K_level]: this level's tokens only."""
        return linear(hidden, *self.heads()[level])

    def heads(self, state: EncoderState | None = None) -> list[Head]:
        """Every level's head, in the graph of the state's pass. All are cut from one part of the matrix: a backward pass then makes
        a gradient of the matrix's size once, not once a level."""
        starts, sizes = self.tokenizer.level_start, self.tokenizer.level_sizes
        first, end = starts[0], starts[-1] + sizes[-1]
        weight_VD, bias_V = self.output()
        table = self.table(state) if weight_VD is self.embeddings() else Table(weight_VD)
        weight_ID, bias_I = table.cut(first, end), None if bias_V is None else bias_V[first:end]
        cuts = [slice(start - first, start - first + size) for start, size in zip(starts, sizes, strict=True)]
        return [Head(weight_ID[cut], None if bias_I is None else bias_I[cut]) for cut in cuts]

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]: every token, text included."""
        return linear(hidden, *self.output())

    def logprobs(
        self, prompts: PromptBatch | EncoderState, sids_BGL: Tensor, trie: Trie, temperature: float = 1.0
    ) -> Tensor:
        """logp_BGL of each code, renormalised over the trie's allowed children, with gradient.

        After a prefix below which the catalogue has one identifier all is certain: 0, and nothing is computed for it.

        Raises:
            InvalidValue: an identifier that is not in the trie, or a temperature that is not positive.
        """
        check_levels(self.tokenizer.level_sizes, trie)
        check_temperature(temperature)
        tables = TrieTables.of(trie, sids_BGL.device)
        nodes_BGL = tables.path(sids_BGL)
        open_BGL = torch.stack([tables.leaves(level, nodes_BGL[..., level]) > 1 for level in range(trie.levels)], dim=-1)
        state = prompts if isinstance(prompts, EncoderState) else self.encode(prompts)
        tree = pack(sids_BGL, self.tokenizer.level_sizes, open_BGL)
        hidden_PD, heads = self.tree_hidden(state, tree), self.heads(state)
        columns = []
        for level, (rows_P, inverse_BG) in enumerate(zip(tree.level_rows, tree.inverse_BG, strict=True)):
            open_BG = open_BGL[..., level]
            inverse_X, code_X = inverse_BG[open_BG], sids_BGL[..., level][open_BG]
            nodes_P = torch.zeros_like(rows_P)
            nodes_P[inverse_X] = nodes_BGL[..., level][open_BG]
            logp_X = _chosen_logp(
                heads[level], trie, level, hidden_PD.index_select(0, rows_P), nodes_P, inverse_X, code_X, temperature
            )
            columns.append(logp_X.new_zeros(open_BG.shape).masked_scatter(open_BG, logp_X))
        return torch.stack(columns, dim=-1)

    def full_logits(self, prompts: PromptBatch | EncoderState, sids_BL: Tensor) -> Tensor:
        """logits_BLV over the whole vocabulary, with gradient: row l predicts code l, given the codes before it."""
        state = prompts if isinstance(prompts, EncoderState) else self.encode(prompts)
        return in_float32(self.vocabulary_logits(self.teacher_forced(state, sids_BL[:, None])[:, 0]))

    def full_ce(self, prompts: PromptBatch | EncoderState, sids_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """ce_BL in nats: cross-entropy of each code over the whole vocabulary, with gradient (the SFT term)."""
        return code_ce(self.full_logits(prompts, sids_BL), sids_BL, self.tokenizer.level_start, label_smoothing)

    def save(self, folder: Path) -> None:
        """Write ``model/`` (opens with ``from_pretrained``), ``extra.safetensors`` and ``policy.json``."""
        self.tokenizer.save(folder / "model")
        self.model.shape.save(folder / "model")
        folders.save_weights(self.model, folder / "model" / "model.safetensors")
        folders.save_weights(self.dense, folder / folders.EXTRA)
        about = folders.About(self.backbone, self.codebook_version, self.dense.in_features, self.settings)
        folders.save_about(folder, about)


def code_ce(logits_BLV: Tensor, sids_BL: Tensor, level_start: Sequence[int], label_smoothing: float = 0.0) -> Tensor:
    """ce_BL in nats of each code, from `Policy.full_logits`. ``label_smoothing``: share of the target spread over the vocabulary."""
    tokens_BL = sids_BL + torch.tensor(level_start, device=sids_BL.device)
    ce = functional.cross_entropy(
        logits_BLV.flatten(0, 1), tokens_BL.reshape(-1), reduction="none", label_smoothing=label_smoothing
    )
    return ce.view(sids_BL.shape)


def _chosen_logp(
    head: Head, trie: Trie, level: int, hidden_PD: Tensor, nodes_P: Tensor, at_X: Tensor, code_X: Tensor, temperature: float
) -> Tensor:
    """logp_X of codes after the nodes ``nodes_P[at_X]``, renormalised over what is allowed there."""
    owner_A, code_A = allowed_children(trie, level, nodes_P)
    codes = len(head.weight_KD)
    if len(code_A) * GATHER_COST < len(nodes_P) * codes:
        logp_A = _children_logp(head, hidden_PD, owner_A, code_A, temperature)
        return _at(logp_A, owner_A, code_A, at_X, code_X, codes)
    bias_PK = TrieTables.of(trie, hidden_PD.device).bias(level, nodes_P)
    logp_PK = restricted_logp(linear(hidden_PD, *head), bias_PK, temperature)
    return logp_PK.view(-1).index_select(0, at_X * codes + code_X)


def _children_logp(head: Head, hidden_PD: Tensor, owner_A: Tensor, code_A: Tensor, temperature: float) -> Tensor:
    """logp_A as the whole level's head gives it, from the logits of the allowed children alone."""
    logit_A = (hidden_PD.index_select(0, owner_A) * functional.embedding(code_A, head.weight_KD)).sum(dim=-1)
    if head.bias_K is not None:
        logit_A = logit_A + head.bias_K[code_A]
    logit_A = in_float32(logit_A) / temperature
    top_P = logit_A.new_full((len(hidden_PD),), -torch.inf).scatter_reduce(0, owner_A, logit_A.detach(), "amax")
    mass_P = torch.zeros_like(top_P).index_add(0, owner_A, (logit_A - top_P[owner_A]).exp())
    return logit_A - (top_P + mass_P.log())[owner_A]


def allowed_children(trie: Trie, level: int, nodes_P: Tensor) -> tuple[Tensor, Tensor]:
    """All codes that may follow P nodes, flat and in any order: (which node, code), int64 [A]."""
    owner_A, child_A = trie.children(level, nodes_P.cpu().numpy())
    code_A = trie.codes_of(level, child_A).astype(np.int64)
    return torch.from_numpy(owner_A).to(nodes_P.device), torch.from_numpy(code_A).to(nodes_P.device)


def _at(values_A: Tensor, owner_A: Tensor, code_A: Tensor, owner_X: Tensor, code_X: Tensor, size: int) -> Tensor:
    """[X]: the values that belong to these nodes and codes."""
    key_A, order_A = torch.sort(owner_A * size + code_A)
    return values_A.index_select(0, order_A[torch.searchsorted(key_A, owner_X * size + code_X)])


def slots_of(dense_width: int, settings: PolicySettings) -> Slots:
    """The projections that these settings ask for."""
    return Slots(dense_width, settings.d_model, settings.prompt.long_history)
