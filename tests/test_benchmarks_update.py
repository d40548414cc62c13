"""The learner's benchmarks: what they race is the same on both sides, and what they count is counted right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from prometheus_client import generate_latest
from torch import Tensor, nn

from benchmarks import learner, passes, rollout, sharding, step_memory, update
from benchmarks.trl_peer import work as told
from benchmarks.wishes.shop import TINY, small_shop
from benchmarks.wishes.started import Look, look_of
from trainers.exposition import Exposition

SMALL = {"update": rollout.bart(width=64, layers=1), "step": rollout.gpt2(width=64, layers=1)}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """One thread; other tests keep theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", update.CASES, ids=lambda case: case.opens)
def test_our_side_is_grpo_on_the_whole_sequences(case: update.Case, tmp_path: Path) -> None:
    """Loss, log-probabilities and gradient's norm of TRL's formula, by transformers' own model on each prompt G times.

    What TRL's adapter does: logits over the vocabulary, all but the catalogue's masked; A = (R - mean) / (std + 1e-4), std by G - 1.
    """
    small = replace(case, make=SMALL[case.deed], text=300, tokens=7, group=4, prompts=2, micro=4, sids=400, threads=1)
    ours = update.Ours(small)
    given = told.Arrays.read(ours.work(tmp_path).arrays)
    twin = getattr(transformers, case.opens).from_pretrained(tmp_path / "model").eval()
    sids_RL = torch.from_numpy(given.rollout_BGL).flatten(0, 1)
    logp_RL = masked(
        whole(twin, torch.from_numpy(given.prompt_BS).repeat_interleave(4, 0), sids_RL), sids_RL, given.catalogue_NL
    )
    reward_BG = torch.from_numpy(told.reward(given.rollout_BGL))
    advantage_BG = (reward_BG - reward_BG.mean(1, keepdim=True)) / (reward_BG.std(1, keepdim=True) + 1e-4)
    theirs = -(torch.exp(logp_RL - logp_RL.detach()) * advantage_BG.flatten()[:, None]).mean()
    theirs.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in twin.parameters() if p.grad is not None])
    loss, own_norm, own_logp_BGL = ours.check()
    torch.testing.assert_close(own_logp_BGL.flatten(0, 1), logp_RL.detach(), rtol=1e-4, atol=1e-5)
    assert loss == pytest.approx(float(theirs.detach()), abs=1e-5) and float(norm) > 0.1
    assert own_norm / ours.factor == pytest.approx(float(norm), rel=1e-4)
    before = [p.detach().clone() for p in ours.policy.module.parameters()]
    ours.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, ours.policy.module.parameters(), strict=True))


def whole(twin: transformers.PreTrainedModel, prompt_RS: Tensor, sids_RL: Tensor) -> Tensor:
    """logits_RLV that predict the identifiers."""
    start_R1 = torch.full((len(sids_RL), 1), twin.config.bos_token_id)
    before_RL = torch.cat([start_R1, sids_RL[:, :-1]], dim=1)
    if twin.config.is_encoder_decoder:
        logits: Tensor = twin(input_ids=prompt_RS, decoder_input_ids=before_RL).logits
        return logits
    return twin(torch.cat([prompt_RS, before_RL], dim=1)).logits[:, prompt_RS.shape[1] :]  # type: ignore[no-any-return]


def masked(logits_RLV: Tensor, sids_RL: Tensor, catalogue_NL: np.ndarray) -> Tensor:
    """Log-probabilities [R, L] among the tokens with which an identifier of the catalogue goes on."""
    bias_RLV = torch.full_like(logits_RLV, -torch.inf)
    for r, sid in enumerate(sids_RL.tolist()):
        for level in range(len(sid)):
            fits_N = (catalogue_NL[:, :level] == sid[:level]).all(axis=1)
            bias_RLV[r, level, torch.from_numpy(catalogue_NL[fits_N, level])] = 0
    return (logits_RLV + bias_RLV).log_softmax(-1).gather(-1, sids_RL[..., None])[..., 0]


def test_a_difference_between_the_sides_is_an_error() -> None:
    """Losses, norms or log-probabilities 1e-3 apart."""
    case = replace(update.CASES[0], make=SMALL["update"], text=300, tokens=5, group=4, prompts=2, sids=400)
    ours = update.Ours(case)
    loss, norm, logp = ours.check()
    same = {"loss": loss / ours.factor, "norm": norm / ours.factor, "logp": logp.flatten().tolist()}
    update.compare(ours, same)
    for wrong in ({"loss": same["loss"] + 1e-3}, {"norm": same["norm"] * 1.001}, {"logp": [p + 1e-3 for p in same["logp"]]}):
        with pytest.raises(AssertionError, match="apart"):
            update.compare(ours, same | wrong)


def test_memory_is_what_it_is() -> None:
    """A block of 64 MiB that is let go again; a layer [4, 8] on 3 rows and a square keep 3 x 8 and 3 x 4 numbers of 4 bytes."""
    before = step_memory.resident_bytes()
    assert step_memory.peak_bytes(lambda: np.ones(1 << 23).sum()) - before >= 60 << 20
    assert step_memory.peak_bytes(lambda: None) - before < 30 << 20
    layer, x = nn.Linear(8, 4), torch.randn(3, 8)
    assert step_memory.kept_bytes(lambda: layer(x).square().sum(), layer) == 4 * (3 * 8 + 3 * 4)


def test_what_a_pass_lets_go_of_is_not_kept_by_the_next() -> None:
    """Three passes with a backward each keep as much as one; held until the end, three times their own and x once."""
    layer, x = nn.Linear(8, 4), torch.randn(3, 8)
    one = step_memory.kept_bytes(lambda: [layer(x).square().sum().backward() for _ in range(3)], layer)
    assert one == 4 * (3 * 8 + 3 * 4)
    assert step_memory.kept_bytes(lambda: [layer(x).square().sum() for _ in range(3)], layer) == 4 * (3 * 8 + 3 * 3 * 4)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> learner.Line:
    """Over a tiny shop."""
    return learner.Line(small_shop(tmp_path_factory.mktemp("shop"), warm_steps=1, policy=TINY))


def test_learner(line: learner.Line) -> None:
    """Every view of a step is one that the learner has not met before; a rate counts them."""
    before, begun = line.state.step, time.process_time()
    rate = line.rate(2)
    assert line.state.step == before + 2 and len(line.state.window) == 16 * line.state.step
    assert rate >= 2 * 16 / (time.process_time() - begun)


def test_learner_rows_by_hand() -> None:
    """80 views in one CPU second and two of the wall, beside 100 a CPU second without Kafka; both asked for 60."""
    runs = [(Look(10.0, 5.0, 100.0), Look(12.0, 6.0, 180.0))] * 5
    plain, through, wall = learner.rows_of("x", [100.0] * 5, runs)
    assert (plain.ours, through.ours, through.peer, wall.ours) == (100, 80, 100, 40)
    assert (plain.ratio, through.ratio, wall.ratio) == pytest.approx((100 / 60, 0.8, 40 / 60))


def test_a_look_at_a_learner_finds_what_it_tells() -> None:
    """In the product's own metrics."""
    told = Exposition("127.0.0.1", 0)
    told.step({"loss": 1.0}, fresh=7)
    seen = look_of(generate_latest(told.registry).decode(), at=3.0)
    assert (seen.at, seen.views) == (3.0, 7.0) and seen.cpu_s > 0


@pytest.mark.slow
def test_passes(line: learner.Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A micro-batch keeps less than the whole step, and costs more; two encoders that differ in their gradient are no race."""
    cases = {case: passes.CASES[case] for case in ("micro-batches of 8", "micro-batches of 2")}
    monkeypatch.setattr(passes, "CASES", cases)
    rows = {row.case: row for row in passes.steps(line, "tiny")}
    assert set(rows) == {f"tiny, {case}{what}" for case in cases for what in ("", ", kept for backward", ", peak memory")}
    eight, two = (rows[f"tiny, {case}, kept for backward"] for case in cases)
    assert eight.peer > eight.ours > two.ours > 0
    monkeypatch.setattr(passes, "compiled_of", lambda policy: policy.encode)
    made, said = passes.compiled(line, "tiny", calls=1)
    assert made.case == "tiny, encoder under torch.compile" and "to compile" in said
    policy = line.state.policy
    with pytest.raises(AssertionError, match="not close"):
        passes.check_same_gradient(
            policy,
            lambda: (policy.module.zero_grad(), passes.total(list(policy.module.parameters())).backward()),
            lambda: (policy.module.zero_grad(), (2 * passes.total(list(policy.module.parameters()))).backward()),
        )


def test_sharding() -> None:
    """Two ranks say what an update cost them, and of how many weights."""
    (said,) = sharding.cost(ranks=2, width=64, layers=1, text=300, sharded=True, repeats=1)
    made = rollout.bart(64, 1)(rollout.tokenizer_of(300, sharding.adapted_sizes(200_000)))
    assert said[2] == 4 * sum(weight.numel() for weight in made.module.parameters()) and min(said) > 0
