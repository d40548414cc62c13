"""A step: what it learns, what it leaves alone, and that it is the same when it is taken again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from reward.settings import ServingScoreSettings
from schemas.campaigns import Campaign, Multipliers
from schemas.errors import Corrupt, Incompatible, NotFinite, Unavailable
from schemas.journal import StepIntent
from schemas.store import Store
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import PRIOR, tools, view
from trainers import checkpoints
from trainers.batches import Batch, is_held_out
from trainers.gate import list_rewards
from trainers.pair_file import load_sampler, save_pairs
from trainers.pairs import Pair
from trainers.passes import prompts_of
from trainers.policies.base import PromptContext
from trainers.settings import GateSettings, LearnerSettings, LossSettings
from trainers.state import LearnerState, Versions, adopt, load_state, save_state, save_warm_start
from trainers.step import take_step

torch.set_num_threads(1)
VERSIONS = Versions("rel", "cb1")
SETTINGS = LearnerSettings(group=8, prompts=6, learning_rate=3e-3, warm_start_batch=4, window_size=16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a warm start in it."""
    made = Store(str(tmp_path / "store"))
    save_warm_start(made, policy_toys.toy_policy(), 0, VERSIONS, {})
    return made


def start(store: Store, settings: LearnerSettings = SETTINGS) -> LearnerState:
    """The state of the newest checkpoint."""
    manifest = checkpoints.newest(store, lambda *_: None)
    assert manifest is not None
    return load_state(store, manifest, settings, VERSIONS)


def intent(step: int, weights: RewardWeights | None = None) -> StepIntent:
    """The intent of a step."""
    return StepIntent(step, {0: step}, weights or RewardWeights(), None, 0, step, 1)


def batch(step: int) -> Batch:
    """Six views with a click each."""
    return Batch(tuple(view(6 * step + n, clicked=[1 + n % 4]) for n in range(6)), 6, 0, 0)


def walk(state: LearnerState, first: int, last: int, settings: LearnerSettings = SETTINGS) -> list[dict[str, float]]:
    """Steps ``first`` to ``last``; the weights change at every second one, and a campaign comes with them."""
    parts = tools(state.policy, settings)
    found = []
    for step in range(first, last + 1):
        sale = Campaign("sale", step // 2, "sale", "me", click=5, multipliers=Multipliers(new_items=1.5))
        weights = RewardWeights(version=step // 2, relevance=1 + step // 2, campaigns=(sale,) if step > 2 else ())
        found.append(take_step(parts, state, batch(step), intent(step, weights)))
        state.step = step
        state.window.insert(view(step))
    return found


def weights_of(state: LearnerState) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in state.policy.module.state_dict().items()}


TIMES = ("step_s", "prompts_per_s", "rollouts_per_s", "tokens_per_s")


def test_saved_and_loaded_it_goes_on_to_the_last_bit(store: Store) -> None:
    """Six steps in one go, and three, a checkpoint, a fresh process's load, three more: equal weights and metrics, and
    an equal record of the weights used."""
    through = start(store)
    expected = walk(through, 1, 6)
    halfway = start(store)
    walk(halfway, 1, 3)
    saved = save_state(store, halfway, intent(3), SETTINGS, VERSIONS, {"reward": 1.0})
    resumed = start(store)
    assert (resumed.step, resumed.parent, saved.parent[:8]) == (3, saved.checkpoint, "00000000")
    found = walk(resumed, 4, 6)
    for name, value in weights_of(through).items():
        assert torch.equal(value, resumed.policy.module.state_dict()[name]), name
    for one, other in zip(expected[3:], found, strict=True):
        assert {k: v for k, v in one.items() if k not in TIMES} == {k: v for k, v in other.items() if k not in TIMES}
    assert resumed.window.dump() == through.window.dump()
    assert resumed.absorbed == through.absorbed and len(through.absorbed) == 5


def test_the_counter_makes_the_draws(store: Store) -> None:
    """The same step with another counter samples other rollouts."""
    results = []
    for counter in (1, 1, 2):
        state = start(store)
        decided = msgspec.structs.replace(intent(1), random_counter=counter)
        take_step(tools(state.policy, SETTINGS), state, batch(1), decided)
        results.append(weights_of(state))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not all(torch.equal(results[0][name], results[2][name]) for name in results[0])


def test_sampling_without_replacement_gives_groups_of_different_identifiers(store: Store) -> None:
    """Eight of eight differ, trained log-probabilities are the sampled ones, and a step taken again is the same."""
    settings, found = SETTINGS.model_copy(update={"sampling": "without_replacement"}), []
    for _ in range(2):
        state = start(store, settings)
        [metrics] = walk(state, 1, 1, settings)
        assert metrics["unique_sids"] == 8 and metrics["logp_gap"] < 1e-4
        assert [metrics[f"entropy.{level}"] > 0 for level in (1, 2)] == [True, True]
        found.append(weights_of(state))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    plain = start(store)
    walk(plain, 1, 1)
    assert not all(torch.equal(value, found[0][name]) for name, value in weights_of(plain).items())


@pytest.mark.parametrize("learner", ["tpma", "grpo"])
def test_learning_raises_the_reward_of_what_is_retrieved(store: Store, learner: str) -> None:
    """60 steps on 12 views: the composite reward of the first five identifiers rises clearly over the warm start's.

    A single look at five identifiers of 12 views moves by some .1 from step to step; the mean of the last six does not.
    """
    settings = SETTINGS.model_copy(
        update={"loss": LossSettings(learner=learner), "warm_start_weight": 0.0}  # type: ignore[arg-type]
    )
    state = start(store, settings)
    parts, gate = tools(state.policy, settings), GateSettings(k=5, beam=5)
    views = [view(n, clicked=[1]) for n in range(12)]

    def value() -> float:
        found = state.policy, views, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, gate
        return float(list_rewards(*found, ServingScoreSettings(relevance_scale=0, ctr_scale=0)).mean())

    before, late = value(), []
    for step in range(1, 61):
        chosen = tuple(views[(6 * step + n) % 12] for n in range(6))
        take_step(parts, state, Batch(chosen, 6, 0, 0), intent(step))
        if step >= 30 and step % 6 == 0:
            late.append(value())
    assert np.mean(late) > before + 0.2


def test_the_parts_of_the_loss_have_their_weights(store: Store) -> None:
    """Beside the group loss half of the targets' cross-entropy adds half of what the learner `sft` has alone, and twice the warm-start
    pairs twice theirs: to the loss that is told, and to the gradient."""

    def step(beta: float, pairs: float, learner: str = "tpma") -> tuple[dict[str, float], torch.Tensor]:
        loss = LossSettings(beta_sft=beta, learner=learner)  # type: ignore[arg-type]
        settings = SETTINGS.model_copy(update={"loss": loss, "warm_start_weight": pairs, "max_grad_norm": 1e6})
        state = start(store, settings)
        metrics = take_step(tools(state.policy, settings), state, batch(1), intent(1))
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in state.policy.module.parameters()]
        return metrics, torch.cat([grad.flatten() for grad in grads])

    told, gradient = step(0, 0)
    half, half_gradient = step(0.5, 0)
    _, targets_alone = step(0, 0, "sft")
    assert half["loss"] - told["loss"] == pytest.approx(0.5 * half["sft_ce"], rel=1e-4)
    torch.testing.assert_close(half_gradient - gradient, 0.5 * targets_alone, rtol=1e-3, atol=1e-5)
    twice, twice_gradient = step(0, 2)
    _, once_gradient = step(0, 1)
    assert twice["loss"] - told["loss"] == pytest.approx(2 * twice["warm_start_ce"], rel=1e-4)
    torch.testing.assert_close(twice_gradient - gradient, 2 * (once_gradient - gradient), rtol=1e-3, atol=1e-5)
    assert (once_gradient - gradient).abs().max() > 1e-3


def test_what_is_sampled_is_what_is_trained_and_held_on_to_at_every_temperature(store: Store) -> None:
    """At .05 the policy is far from that of 1, which is less certain: rollouts, their recomputed log-probabilities and the warm start's, here the
    same weights, are all the tempered policy's."""
    found = {}
    for temperature in (1.0, 0.05):
        settings = SETTINGS.model_copy(update={"temperature": temperature, "loss": LossSettings(kl=1e-9)})
        state = start(store, settings)
        parts = replace(tools(state.policy, settings), reference=policy_toys.toy_policy())
        found[temperature] = metrics = take_step(parts, state, batch(1), intent(1))
        assert metrics["logp_gap"] < 1e-3
        assert abs(metrics["kl_warm_start"]) < 1e-3
    assert found[0.05]["entropy.1"] < 0.8 * found[1.0]["entropy.1"]


def test_dpo_learns_what_is_worth_more(store: Store) -> None:
    """List-wise DPO through the same step: the mean reward of its rollouts rises above the first steps'."""
    loss = LossSettings(learner="dpo", dpo_beta=0.5, beta_sft=0.0)
    settings = SETTINGS.model_copy(update={"loss": loss, "warm_start_weight": 0.0})
    state = start(store, settings)
    parts = replace(tools(state.policy, settings), reference=policy_toys.toy_policy())
    rewards = [take_step(parts, state, batch(n % 3), intent(n))["reward"] for n in range(1, 41)]
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 0.2


def test_sft_learns_the_targets_and_takes_no_rollouts(store: Store) -> None:
    """Cross-entropy of the clicked identifiers falls; no reward is reported."""
    settings = SETTINGS.model_copy(update={"loss": LossSettings(learner="sft"), "warm_start_weight": 0.0})
    state = start(store, settings)
    parts = tools(state.policy, settings)
    metrics = [take_step(parts, state, batch(0), intent(n)) for n in range(1, 31)]
    assert metrics[-1]["sft_ce"] < 0.7 * metrics[0]["sft_ce"]
    assert "reward" not in metrics[0]
    assert metrics[0]["rollouts_per_s"] == 0


def test_metrics_of_a_step(store: Store) -> None:
    """Everything the journal promises is there; on-policy, the recomputed log-probs are the sampled ones."""
    state = start(store)
    metrics = take_step(tools(state.policy, SETTINGS), state, batch(1), intent(1))
    named = {
        "loss", "reward", "reward.relevance", "reward.ctr", "reward.interaction", "variance_share.ctr", "advantage_spread",
        "constant_groups", "entropy.1", "entropy.5", "unique_sids", "logp_gap", "gradient_norm", "sft_ce", "target_share",
        "warm_start_ce", "target_in_group", "prompts_per_s", "rollouts_per_s", "unavailable",
    }  # fmt: skip
    assert named <= set(metrics)
    assert metrics["logp_gap"] < 1e-4
    assert metrics["target_share"] == 1
    prompts = prompts_of(tools(state.policy, SETTINGS).builder, batch(1).views)
    codes = 6 * SETTINGS.group * len(policy_toys.SIZES)
    assert metrics["tokens_per_s"] * metrics["step_s"] == pytest.approx(int(prompts.mask_BS.sum()) + codes)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["reward"] == pytest.approx(
        metrics["reward.relevance"] + metrics["reward.ctr"] + metrics["reward.interaction"]
    )


def test_what_is_told_of_targets_is_of_targets(store: Store) -> None:
    """Views without a click or an order: 0 would pass for a model that is sure of its targets and never finds one."""
    state = start(store)
    none = Batch(tuple(view(n) for n in range(6)), 6, 0, 0)
    metrics = take_step(tools(state.policy, SETTINGS), state, none, intent(1))
    assert metrics["target_share"] == 0 and not {"sft_ce", "target_in_group"} & metrics.keys()


def test_weights_of_the_intent_are_the_weights_of_the_step(store: Store) -> None:
    """Relevance 0 and click 0: only the CTR term is left."""
    state = start(store)
    weights = RewardWeights(version=2, relevance=0, click=0, order=0)
    metrics = take_step(tools(state.policy, SETTINGS), state, batch(1), intent(1, weights))
    assert metrics["reward"] == pytest.approx(metrics["reward.ctr"])
    assert metrics["reward.relevance"] == metrics["reward.interaction"] == 0


@pytest.mark.parametrize("changes", [{}, {"sampling": "without_replacement"}, {"rollout_temperature": 2.0}])
def test_a_step_that_is_not_finite_changes_nothing(store: Store, changes: dict[str, object]) -> None:
    """A NaN in a weight is found before the optimiser moves, however rollouts are drawn."""
    settings = SETTINGS.model_copy(update=changes)
    state = start(store, settings)
    with torch.no_grad():
        next(state.policy.module.parameters()).fill_(float("nan"))
    before = weights_of(state)
    with pytest.raises(NotFinite):
        take_step(tools(state.policy, settings), state, batch(1), intent(1))
    after = state.policy.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not before[name].isnan().any())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_what_is_kept_for_the_gate_and_what_is_trained_on_stay_apart(store: Store, share: float) -> None:
    """Kept under a share of 0.3, 100 views in either window by their hash. Under another share what would be in the other
    window now is in neither, and nothing else is lost."""
    state = start(store, SETTINGS.model_copy(update={"window_size": 100, "held_out_share": 0.3}))
    for n in range(100):
        (state.held_out if is_held_out(f"r{n}", 0.3) else state.window).insert(view(n))
    adopt(state, SETTINGS.model_copy(update={"window_size": 100, "held_out_share": share}))
    trained, kept = ({one.request_id for one in window.newest(100)} for window in (state.window, state.held_out))
    assert trained == {f"r{n}" for n in range(100) if not is_held_out(f"r{n}", max(share, 0.3))}
    assert kept == {f"r{n}" for n in range(100) if is_held_out(f"r{n}", min(share, 0.3))}


def test_a_checkpoint_of_other_identifiers_is_refused(store: Store) -> None:
    """Its tokens would mean other items."""
    manifest = checkpoints.newest(store, lambda *_: None)
    assert manifest is not None
    with pytest.raises(Incompatible, match="cb1"):
        load_state(store, manifest, SETTINGS, Versions("rel", "cb2"))


def test_pairs_of_the_warm_start_come_back_as_saved(store: Store) -> None:
    """The stored sampler draws what one over the same pairs draws; a file that is not there or torn is named."""
    pairs = [Pair(PromptContext("red lamp", ("a",), ("i1",)), (1, 2, 0, 1, 0)), Pair(PromptContext("rug"), (0, 0, 0, 0, 0))]
    save_pairs(store, "w1", {"titles": pairs, "judged": pairs[:1]}, {"titles": 1.0, "judged": 0.5})
    save_pairs(store, "w3", {"titles": pairs[1:]}, {"titles": 1.0})  # another warm start's, of the same identifiers
    drawn = load_sampler(store, "w1", seed=3).batch(7, 50)
    assert {pair.context.query for pair in drawn} == {"red lamp", "rug"}
    assert set(drawn) == set(pairs)
    with pytest.raises(Unavailable, match="pairs-w2"):
        load_sampler(store, "w2", seed=3)
    store.write("warm_start/pairs-w1.msgpack.zst", b"torn")
    with pytest.raises(Corrupt, match="pairs-w1"):
        load_sampler(store, "w1", seed=3)


def test_a_step_absorbs_the_weights_it_used(store: Store) -> None:
    """Half-life 2: a step of other weights takes 1 - 0.5 ** 0.5 of the record, a checkpoint keeps it exactly, and a learner that no
    weight shapes has nothing to record."""
    settings = SETTINGS.model_copy(update={"absorb_half_life": 2.0})
    state, wish = start(store, settings), RewardWeights(version=2, relevance=2)
    parts = tools(state.policy, settings)
    metrics = take_step(parts, state, batch(1), intent(1, wish))
    assert [entry.weights for entry in state.absorbed] == [RewardWeights(), wish]
    assert metrics["absorbed"] == state.absorbed[1].share == pytest.approx(1 - 0.5**0.5)
    state.step, state.clock_ms = 1, 77
    save_state(store, state, intent(1, wish), settings, VERSIONS, {})
    again = start(store, settings)
    assert (again.absorbed, again.clock_ms) == (state.absorbed, 77)
    alone = settings.model_copy(update={"loss": LossSettings(learner="sft")})
    before = again.absorbed
    take_step(tools(again.policy, alone), again, batch(2), intent(2, RewardWeights(version=3, ctr=9)))
    assert again.absorbed == before
