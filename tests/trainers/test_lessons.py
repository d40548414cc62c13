"""An update's supervised objective: each part of Eq. 8 beside autograd by hand, and the prompt that only a teacher sees."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.trainers import policy_toys as toys
from trainers.adversary import perturbed
from trainers.lessons import lesson
from trainers.losses.distillation import distillation_loss, r_drop_loss
from trainers.losses.supervised import focal
from trainers.pairs import Pair, sids_of
from trainers.policies.base import DecodeState, PromptContext
from trainers.policies.levels import LevelPolicy
from trainers.policies.settings import PolicySettings, WarmStartSettings
from trainers.settings import TrainerSettings

torch.set_num_threads(1)

PAIRS = [Pair(PromptContext("red lamp"), (1, 2, 0, 1, 0)), Pair(PromptContext("blue chair"), (3, 0, 2, 0, 1))]


def keywords_of(query: str) -> list[str]:
    """What the teacher is told: the colour once more."""
    return [f"colour {query.split()[0]}"]


def gradients(policy: LevelPolicy) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in policy.module.parameters()]


def learned(policy: LevelPolicy, **changes: Any) -> list[Tensor]:
    """Gradients of one lesson."""
    policy.module.zero_grad()
    lesson(policy, PAIRS, toys.toy_builder(policy), WarmStartSettings(**changes), keywords_of)
    return gradients(policy)


def tokens_of(policy: LevelPolicy) -> Tensor:
    return torch.tensor(
        [[s + code for s, code in zip(policy.tokenizer.level_start, pair.sid, strict=True)] for pair in PAIRS]
    )


def logits_of(policy: LevelPolicy, contexts: list[PromptContext]) -> Tensor:
    return policy.full_logits(toys.toy_builder(policy).build(contexts), torch.tensor([pair.sid for pair in PAIRS]))


@torch.no_grad()
@pytest.mark.parametrize("name", toys.NAMES)
def test_each_row_of_logits_predicts_its_own_code(name: str) -> None:
    """Of every backbone, the first code included: what decoding step by step predicts."""
    policy = toys.toy_policy(name=name)
    prompts, sids_BL = toys.toy_builder(policy).build([pair.context for pair in PAIRS]), torch.tensor([p.sid for p in PAIRS])
    got_BLV = policy.full_logits(prompts, sids_BL)
    state, codes_BR = DecodeState(policy.encode(prompts), 0), None
    for level in range(len(toys.SIZES)):
        hidden_BRD, state = policy.advance(state, codes_BR)
        torch.testing.assert_close(got_BLV[:, level], policy.vocabulary_logits(hidden_BRD)[:, 0], rtol=1e-4, atol=1e-5)
        codes_BR = sids_BL[:, level : level + 1]


@pytest.mark.parametrize("name", toys.NAMES)
def test_without_weights_it_is_the_cross_entropy_to_the_last_bit(name: str) -> None:
    policy = toys.toy_policy(name=name)
    got = learned(policy)
    policy.module.zero_grad()
    prompts = toys.toy_builder(policy).build([pair.context for pair in PAIRS])
    policy.full_ce(prompts, sids_of(PAIRS)).mean().backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(one, other) for one, other in zip(got, gradients(policy), strict=True))


@pytest.mark.parametrize("name", toys.NAMES)
def test_all_of_equation_8_without_dropout(name: str) -> None:
    """Focal CE + .5 KL, then the same once more where the embeddings were moved by 0.6 along the first gradient; one teacher for both.
    The weights are afterwards what they were, to the last bit."""
    policy = toys.toy_policy(name=name)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    got = learned(policy, loss="focal", distillation=0.5, distillation_tau=2.0, adversarial=0.6)
    assert all(torch.equal(value, policy.state_dict()[name]) for name, value in before.items())

    told = [PromptContext(pair.context.query, keywords=tuple(keywords_of(pair.context.query))) for pair in PAIRS]
    teacher_BLV = logits_of(policy, told).detach()

    def by_hand() -> list[Tensor]:
        policy.module.zero_grad()
        logits_BLV = logits_of(policy, [pair.context for pair in PAIRS])
        ce_BL = cross_entropy(logits_BLV.movedim(-1, 1), tokens_of(policy), reduction="none")
        (focal(ce_BL).mean() + 0.5 * distillation_loss(teacher_BLV, logits_BLV, 2.0)[0]).backward()
        return gradients(policy)

    plain, embeddings = by_hand(), policy.embeddings()
    (at,) = [n for n, p in enumerate(policy.module.parameters()) if p is embeddings]
    with torch.no_grad():
        embeddings.add_(0.6 * plain[at] / plain[at].norm())
    moved = by_hand()
    for one, first, second in zip(got, plain, moved, strict=True):
        torch.testing.assert_close(one, first + second, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(moved[at], plain[at], rtol=1e-2)


def test_what_is_told_counts_with_its_own_weight() -> None:
    """Beside the plain one, 3 times the cross-entropy under the prompts with keywords; without a teacher."""
    policy = toys.toy_policy()
    got = learned(policy, told=3.0)
    policy.module.zero_grad()
    plain = [pair.context for pair in PAIRS]
    told = [PromptContext(context.query, keywords=tuple(keywords_of(context.query))) for context in plain]
    losses = [cross_entropy(logits_of(policy, each).movedim(-1, 1), tokens_of(policy)) for each in (plain, told)]
    (losses[0] + 3 * losses[1]).backward()
    for one, expected in zip(got, gradients(policy), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-6)


def test_r_drop_compares_two_passes_with_other_dropout() -> None:
    """By the same random numbers the gradient is that of CE + 3 R-Drop of the two passes; the teacher's pass drops nothing and draws
    none."""
    policy = toys.toy_policy(dropout=0.3)
    policy.module.train()
    torch.manual_seed(4)
    got = learned(policy, r_drop=3.0, distillation=1.0)
    assert policy.module.training
    policy.module.eval()
    told = [PromptContext(pair.context.query, keywords=tuple(keywords_of(pair.context.query))) for pair in PAIRS]
    teacher_BLV = logits_of(policy, told).detach()
    policy.module.train()
    policy.module.zero_grad()
    torch.manual_seed(4)
    one_BLV, other_BLV = (logits_of(policy, [pair.context for pair in PAIRS]) for _ in range(2))
    ce = cross_entropy(one_BLV.movedim(-1, 1), tokens_of(policy))
    (ce + distillation_loss(teacher_BLV, one_BLV)[0] + 3 * r_drop_loss(one_BLV, other_BLV)[0]).backward()
    for one, expected in zip(got, gradients(policy), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-6)


def test_embeddings_are_moved_by_epsilon_and_put_back_to_the_last_bit() -> None:
    """Along (3, 4), of norm 5: 0.5 of it is (0.3, 0.4). Also where what runs inside fails; without a gradient nothing moves."""
    weight = torch.tensor([[0.1, 0.7]], requires_grad=True)
    before = weight.detach().clone()
    with perturbed(weight, 0.5):
        assert torch.equal(weight, before)
    weight.grad = torch.tensor([[3.0, 4.0]])
    with suppress(KeyError), perturbed(weight, 0.5):
        torch.testing.assert_close(weight.detach(), torch.tensor([[0.4, 1.1]]))
        raise KeyError
    assert torch.equal(weight, before)
    weight.grad = torch.zeros(1, 2)
    with perturbed(weight, 0.5):
        assert torch.equal(weight, before)


def test_keywords_take_the_room_that_the_query_leaves() -> None:
    """Behind the query's own pieces, after a separator; cut where the query's room ends; what follows is as before."""
    policy = toys.toy_policy()
    builder, tokenizer = toys.toy_builder(policy), policy.tokenizer
    plain, told = (
        builder.build([PromptContext("red lamp", ("blue rug",), ("i1",), keywords=words)]).tokens_BS[0].tolist()
        for words in ((), ("colour red", "kind lamp"))
    )
    query, room = tokenizer.text("red lamp", 32), policy.settings.prompt.query_tokens
    at = 1 + len(toys.SIZES) + len(query)
    added = [tokenizer.sep, *tokenizer.text("colour red kind lamp", 32)]
    assert told == plain[:at] + added + plain[at:]
    (long,) = builder.build([PromptContext("red lamp", keywords=("chair rug",) * 200)]).tokens_BS.tolist()
    assert len(long) == 1 + len(toys.SIZES) + room + 1


def test_what_cannot_be_meant_is_refused() -> None:
    """Two passes without dropout are one; the focal loss goes by the target's own probability."""
    with pytest.raises(ValueError, match=r"r_drop is 0\.5, but must be 0 where trainers\.policy\.dropout is 0"):
        TrainerSettings(warm_start=WarmStartSettings(r_drop=0.5))
    TrainerSettings(warm_start=WarmStartSettings(r_drop=0.5), policy=PolicySettings(dropout=0.1))
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, but must be 0 with the focal loss"):
        WarmStartSettings(loss="focal", label_smoothing=0.1)
