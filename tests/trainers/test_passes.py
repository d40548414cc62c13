"""A step cut into micro-batches or shares is the step of the whole batch: gradient, weights and metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from schemas.errors import NotFinite
from schemas.journal import StepIntent
from schemas.weights import RewardWeights
from tests.trainers import policy_toys as toys
from tests.trainers.learner_toys import tools, view
from trainers.batches import Batch
from trainers.optimiser import Optimiser
from trainers.passes import together
from trainers.policies.levels import LevelPolicy
from trainers.rollout import Rollouts
from trainers.settings import LearnerSettings, LossSettings
from trainers.state import LearnerState
from trainers.step import take_step
from trainers.window import Window

torch.set_num_threads(1)
TIMES = ("step_s", "prompts_per_s", "rollouts_per_s", "tokens_per_s")
INTENT = StepIntent(1, {}, RewardWeights(), None, 0, 7, 1)
#: Seven views: with several targets, with one, with none.
VIEWS = tuple(view(n, clicked=[1, 2, 3][: n % 4], ordered=[4] if n == 5 else []) for n in range(7))


def taken(settings: LearnerSettings, ranks: int = 1, name: str = "bart") -> tuple[LevelPolicy, dict[str, float]]:
    """One step in float64 from one start: the policy with its gradient, and the metrics."""
    policy = toys.toy_policy(name=name).double()
    state = LearnerState(policy, Optimiser(policy, settings), Window(1), Window(1))
    parts = replace(tools(policy, settings), reference=toys.toy_policy(seed=4, name=name).double())
    intent = msgspec.structs.replace(INTENT, ranks=ranks)
    metrics = take_step(parts, state, Batch(VIEWS, 7, 0, 0), intent)
    return policy, {k: v for k, v in metrics.items() if k not in TIMES}


def check_same(one: tuple[LevelPolicy, dict[str, float]], other: tuple[LevelPolicy, dict[str, float]]) -> None:
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        # Rollouts keep float32 entropies and log-probabilities, which padding may round otherwise.
        assert value == pytest.approx(other[1][name], rel=1e-6, abs=1e-6 if name == "logp_gap" else 1e-9), name
    for (name, a), b in zip(one[0].named_parameters(), other[0].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-11, msg=name)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-9, msg=name)


@pytest.mark.parametrize(("micro", "ranks"), [(1, 1), (3, 1), (0, 2), (0, 3), (1, 2), (2, 9)])
@pytest.mark.parametrize("drawn", [{}, {"sampling": "without_replacement"}, {"rollout_temperature": 2.0}])
def test_the_parts_add_up_to_the_whole(micro: int, ranks: int, drawn: dict[str, Any]) -> None:
    """Micro-batches that do not divide seven prompts and five pairs, and more shares than there are prompts."""
    settings = LearnerSettings(group=6, prompts=7, warm_start_batch=5, **drawn)
    check_same(taken(settings), taken(settings.model_copy(update={"micro_batch": micro}), ranks))


@pytest.mark.parametrize("name", toys.NAMES)
@pytest.mark.parametrize("learner", ["tpma", "grpo", "dpo", "sft"])
def test_with_every_learner_and_backbone(name: str, learner: Any) -> None:
    """Two prompts a pass and two shares, with the divergence from a reference where the learner has one."""
    loss = LossSettings(learner=learner, kl=0.5 if learner in ("tpma", "grpo") else 0.0, gate="strict_prefix")
    settings = LearnerSettings(group=6, prompts=7, warm_start_batch=5, loss=loss)
    check_same(taken(settings, name=name), taken(settings.model_copy(update={"micro_batch": 2}), 2, name))


def test_a_share_that_is_not_finite_leaves_the_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of four passes breaks: nothing moves, and the step says why."""
    settings = LearnerSettings(group=6, prompts=7, micro_batch=2)
    full_ce, calls = LevelPolicy.full_ce, list[int]()

    def broken(self: LevelPolicy, *given: Any, **more: Any) -> Tensor:
        calls.append(1)
        return full_ce(self, *given, **more) * (float("nan") if len(calls) == 3 else 1)

    policy = toys.toy_policy()
    state = LearnerState(policy, Optimiser(policy, LearnerSettings()), Window(1), Window(1))
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    monkeypatch.setattr(LevelPolicy, "full_ce", broken)
    with pytest.raises(NotFinite, match="SFT loss is nan"):
        take_step(tools(policy, settings), state, Batch(VIEWS, 7, 0, 0), INTENT)
    assert all(torch.equal(before[key], value) for key, value in policy.state_dict().items())


def test_parts_are_put_together_in_their_places() -> None:
    """Tensors, arrays, records of them, and what is not there."""
    codes = torch.arange(30).view(5, 3, 2)
    whole = Rollouts(codes, codes + 0.5, codes + 0.25, codes[..., 0])

    def part(rows: list[int]) -> tuple[list[int], Rollouts]:
        return rows, Rollouts(*(getattr(whole, name)[rows] for name in ("sids_BGL", "logp_BGL", "entropy_BGL", "leaf_BG")))

    made = together([part([4, 0]), part([2]), part([1, 3])])
    for name in ("sids_BGL", "logp_BGL", "entropy_BGL", "leaf_BG"):
        assert torch.equal(getattr(made, name), getattr(whole, name))
    assert together([([1], np.array([5])), ([0], np.array([7]))]).tolist() == [7, 5]
    assert together([([1], None), ([0], None)]) is None


class _Kept:
    """A tensor kept for the backward pass, counted while it lives."""

    live = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.nbytes
        _Kept.live += self.bytes
        _Kept.most = max(_Kept.most, _Kept.live)

    def __del__(self) -> None:
        _Kept.live -= self.bytes


def test_micro_batches_keep_less_for_the_backward_pass() -> None:
    """Of eight prompts and eight pairs, two at a time: less than half of what all at once keep."""
    most = []
    for micro in (0, 2):
        settings = LearnerSettings(group=8, prompts=8, warm_start_batch=8, micro_batch=micro)
        policy = toys.toy_policy(encoder_layers=2, decoder_layers=2)
        own = {p.data_ptr() for p in policy.parameters()}
        state = LearnerState(policy, Optimiser(policy, LearnerSettings()), Window(1), Window(1))
        _Kept.most = _Kept.live
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, own=own: t if t.data_ptr() in own else _Kept(t),  # type: ignore[misc]
            lambda kept: kept.tensor if isinstance(kept, _Kept) else kept,
        )
        with hooks:
            take_step(tools(policy, settings), state, Batch(tuple(view(n, clicked=[1]) for n in range(8)), 8, 0, 0), INTENT)
        most.append(_Kept.most)
    assert most[1] < most[0] / 2


@pytest.mark.parametrize("name", toys.NAMES)
def test_bf16_is_float32_to_its_digits(name: str) -> None:
    """The supervised learner sees the same data in either precision: loss within 1 %, gradient within 5 % of its length and nearly
    parallel, every parameter touched that was, and all of it in float32. bf16 has 8 binary digits, a product loses half of the last."""
    settings = LearnerSettings(prompts=7, warm_start_batch=5, loss=LossSettings(learner="sft"), max_grad_norm=1e6)
    found = []
    for precision in ("fp32", "bf16"):
        policy = toys.toy_policy(name=name)
        state = LearnerState(policy, Optimiser(policy, LearnerSettings()), Window(1), Window(1))
        chosen = settings.model_copy(update={"precision": precision})
        metrics = take_step(tools(policy, chosen), state, Batch(VIEWS, 7, 0, 0), INTENT)
        assert {p.dtype for p in policy.parameters()} == {p.grad.dtype for p in policy.parameters() if p.grad is not None}
        found.append((metrics["loss"], [p.grad for p in policy.parameters()]))
    (loss, exact), (rounded_loss, rounded) = found
    assert loss != rounded_loss == pytest.approx(loss, rel=0.01)
    assert [g is None for g in exact] == [g is None for g in rounded]
    a, b = (torch.cat([g.flatten() for g in gradient if g is not None]) for gradient in (exact, rounded))
    assert float((a - b).norm()) < 0.05 * float(a.norm())


@pytest.mark.parametrize("drawn", [{}, {"sampling": "without_replacement"}, {"rollout_temperature": 2.0}])
def test_in_bf16_what_is_sampled_is_what_is_trained(drawn: dict[str, Any]) -> None:
    """Rollouts are bf16's too, so recomputed log-probabilities differ by rounding alone; every weight that float32 moves has a
    gradient, though rollouts without one have cast it before; the same step again has the same bits."""
    settings = LearnerSettings(group=6, prompts=7, warm_start_weight=0, **drawn, loss=LossSettings(beta_sft=0))
    found = []
    for precision in ("fp32", "bf16", "bf16"):
        policy = toys.toy_policy()
        state = LearnerState(policy, Optimiser(policy, LearnerSettings()), Window(1), Window(1))
        chosen = settings.model_copy(update={"precision": precision})
        metrics = take_step(tools(policy, chosen), state, Batch(VIEWS, 7, 0, 0), INTENT)
        found.append((metrics["logp_gap"], {name: p.grad for name, p in policy.named_parameters()}, policy))
    (_, exact, _), (gap, rounded, one), (_, _, again) = found
    assert 0 < gap < 0.1
    for name, gradient in exact.items():
        if gradient is not None and bool(gradient.any()):
            assert rounded[name] is not None and bool(rounded[name].any()), name
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
