"""What a step never makes: a tensor of the vocabulary for every rollout, or a row for a prefix that leaves no choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from schemas.journal import StepIntent
from schemas.store import Store
from schemas.weights import RewardWeights
from tests.trainers import policy_toys as toys
from tests.trainers.learner_toys import tools, view
from trainers import checkpoints
from trainers.batches import Batch
from trainers.policies.packing import PrefixTree
from trainers.settings import LearnerSettings
from trainers.state import Versions, load_state, save_warm_start
from trainers.step import take_step

torch.set_num_threads(1)
VERSIONS = Versions("rel", "cb1")


class Largest(TorchDispatchMode):
    """Sees every tensor that an operation gives, those of the backward pass too; keeps the most numbers of any."""

    numbers = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(t.numel() for t in tree_leaves(made) if isinstance(t, Tensor))])
        return made


def test_no_tensor_holds_the_vocabulary_for_every_rollout(tmp_path: Path) -> None:
    """B 4, G 64, L 5: the SFT term's [B, L, V] is made, [G, V] of one prompt's rollouts at one level already not.

    Nor is anything else as large, the weights apart: they have V D numbers, and D is below G.
    """
    store, policy = Store(str(tmp_path)), toys.toy_policy()
    save_warm_start(store, policy, 0, VERSIONS, {})
    manifest = checkpoints.newest(store, lambda *_: None)
    assert manifest is not None
    settings = LearnerSettings(group=64, prompts=4, warm_start_batch=4)
    state = load_state(store, manifest, settings, VERSIONS)
    parts, vocabulary = tools(state.policy, settings), len(state.policy.tokenizer)
    assert state.policy.settings.d_model < 64
    batch = Batch(tuple(view(n, clicked=[1]) for n in range(4)), 4, 0, 0)
    with Largest() as seen:
        take_step(parts, state, batch, StepIntent(1, {}, RewardWeights(), None, 0, 1, 1))
    assert 4 * 5 * vocabulary <= seen.numbers < 64 * vocabulary


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_prefix_with_one_identifier_below_it_has_no_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are the prefixes, the empty one too, that at least two identifiers of the catalogue begin with."""
    policy, trie = toys.toy_policy(name=name), toys.toy_trie()
    prompts, catalogue = toys.toy_prompts(policy), {tuple(sid) for sid in toys.toy_sids().tolist()}
    sids_BGL = torch.tensor(sorted(catalogue)).expand(len(prompts), -1, -1)
    prefixes = {sid[:depth] for sid in catalogue for depth in range(5)}
    open_ = {p for p in prefixes if sum(sid[: len(p)] == p for sid in catalogue) > 1}
    seen: list[PrefixTree] = []
    whole = policy.tree_hidden
    monkeypatch.setattr(policy, "tree_hidden", lambda state, tree: (seen.append(tree), whole(state, tree))[1])
    logp_BGL = policy.logprobs(prompts, sids_BGL, trie)
    assert len(seen[0].depth_P) == len(prompts) * len(open_) < len(prompts) * len(prefixes)
    torch.testing.assert_close(logp_BGL.double().sum(dim=-1).exp().sum(dim=-1), torch.ones(len(prompts)).double())
    for g, sid in enumerate(sids_BGL[0].tolist()):
        certain = [tuple(sid[:depth]) not in open_ for depth in range(5)]
        assert torch.equal(logp_BGL[:, g, certain], torch.zeros(len(prompts), sum(certain)))
