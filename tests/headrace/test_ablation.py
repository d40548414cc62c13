"""The ablation's harness: arms meet the same world, results repeat to the bit and resume, the report says what the JSON says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from headrace.ablation import study
from headrace.ablation.arms import Arm, chosen, parsed, table
from headrace.ablation.combine import combine
from headrace.ablation.lab import Lab, at_most, classes, open_lab
from headrace.ablation.loop import Played, play
from headrace.ablation.measures import measures, paired, values
from headrace.ablation.page import section, verdicts, write_section
from headrace.ablation.results import load
from headrace.ablation.settings import arm_key, base_settings, prepared_key, setup_of
from headrace.ablation.users import Users
from headrace.ablation.withheld import WithheldWorld
from headrace.context import with_context
from headrace.evaluation.lists import Judge
from headrace.world import Outcome, Request
from reward.composite import item_reward
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.errors import InvalidSetting, InvalidValue
from schemas.events import Click, Impression, Order, ShownItem
from schemas.weights import RewardWeights
from serving.parts import open_checkpoint
from serving.requests import SearchRequest
from serving.settings import EngineSettings
from tests.headrace.ablation_toys import LOOP, small_settings
from trainers.evaluation import paired_bootstrap


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the world of these tests is prepared, once."""
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def lab(root: Path) -> Lab:
    return open_lab(root, small_settings(), LOOP)


@pytest.fixture(scope="module")
def played(lab: Lab) -> dict[str, Played]:
    """Two arms of the lab."""
    return {arm.name: play(lab, arm, setup_of(lab.settings, LOOP, arm)) for arm in chosen(["frozen", "tpma"])}


@pytest.fixture
def plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> study.Plan:
    """Two arms over the small shop, in place of the demo's."""
    monkeypatch.setattr(study, "base_settings", lambda *_: small_settings())
    return study.Plan(root, "shop", (7,), tuple(chosen(["frozen", "bm25"])), LOOP)


def test_an_arm_equals_itself_to_the_bit(lab: Lab, played: dict[str, Played]) -> None:
    """Rows, probes, every metric of every step and every decision of the gate."""
    (arm,) = chosen(["tpma"])
    again = play(lab, arm, setup_of(lab.settings, LOOP, arm))
    for one, other in ((again.stream, played["tpma"].stream), (again.probes, played["tpma"].probes)):
        assert {k: np.array(v).tobytes() for k, v in one.columns.items()} == {
            k: np.array(v).tobytes() for k, v in other.columns.items()
        }
    assert msgspec.json.encode([again.curves, again.publications]) == msgspec.json.encode(
        [played["tpma"].curves, played["tpma"].publications]
    )
    assert len(again.publications) == 3 and any(p["promoted"] for p in again.publications)
    assert played["tpma"].stream.columns != played["frozen"].stream.columns


def test_two_arms_meet_the_same_requests_and_the_same_feedback_for_the_same_page(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stood before: a click hangs on request, item and place alone."""
    met: dict[str, list[tuple[Request, tuple[str, ...], Outcome]]] = {}
    feedback = WithheldWorld.feedback
    for arm in chosen(["bm25", "click_memory"]):
        seen = met[arm.name] = []

        def spy(world: WithheldWorld, request: Request, shown: Any, seen: Any = seen) -> Outcome:
            seen.append((request, tuple(shown), feedback(world, request, shown)))
            return seen[-1][2]

        monkeypatch.setattr(WithheldWorld, "feedback", spy)
        play(lab, arm, setup_of(lab.settings, LOOP, arm))
    one, other = (sorted(met[name], key=lambda seen: seen[0].request_id) for name in ("bm25", "click_memory"))
    assert [r for r, *_ in one] == [r for r, *_ in other]
    assert sorted(r for r, *_ in one) == sorted([*lab.requests, *lab.probes])
    same = 0
    for (request, left, outcome), (_, right, beside) in zip(one, other, strict=True):
        places = {item for n, item in enumerate(left) if right[n : n + 1] == (item,)}
        clicked = [{c.item for c in o.clicks} & places for o in (outcome, beside)]
        assert clicked[0] == clicked[1], request
        same += len(places)
    assert same > len(one)


def test_blocks_and_waves_cut_the_stream_where_searches_hang_together(lab: Lab) -> None:
    """No block over a snapshot or a publication; a user's searches in different waves, in their order; nothing left out."""
    setup = setup_of(lab.settings, LOOP, Arm("x"))
    every_ms = setup.settings.reward.posterior.snapshot_every_s * 1_000
    blocks = list(lab.blocks(setup))
    assert [n for block in blocks for n in block] == list(range(48))
    for block in blocks:
        assert len({lab.requests[n].ts // every_ms for n in block}) == 1
        assert block.start // 16 == (block.stop - 1) // 16  # a publication every 4 steps of 4 searches
        waves = lab.waves(block)
        assert sorted(n for wave in waves for n in wave) == list(block)
        place = {n: w for w, wave in enumerate(waves) for n in wave}
        for n in block:
            for m in range(n + 1, block.stop):
                if lab.requests[n].user == lab.requests[m].user:
                    assert place[n] < place[m]


def test_the_frozen_arm_s_first_pages_are_worth_what_a_by_hand_evaluation_says(lab: Lab, played: dict[str, Played]) -> None:
    """Before the first snapshot of the live part changes the order: engine, feedback and reward put together by hand."""
    setup = setup_of(lab.settings, LOOP, chosen(["frozen"])[0])
    policy, manifest = open_checkpoint(lab.store, lab.artefacts.frozen)
    engine = lab.parts.engine(policy, manifest, setup.settings.serving.engine, setup.settings.reward)
    snapshot = snapshot_of_history(lab)
    first = next(lab.blocks(setup))
    alone = [n for n in first if n in lab.waves(first)[0]]  # those whose user has no earlier search in the stream
    for n, request in ((n, lab.requests[n]) for n in alone):
        past = [e for e in with_context(lab.history) if isinstance(e, Impression) and e.user == request.user]
        queries = list(dict.fromkeys(e.query for e in reversed(past)))[:5]
        clicks = {e.item: e.ts for e in lab.history if isinstance(e, Click) and e.user == request.user and e.ts < request.ts}
        items = sorted(clicks, key=lambda item: (clicks[item], item), reverse=True)[:10]
        bought = {e.item: e.ts for e in lab.history if isinstance(e, Order) and e.user == request.user and e.ts < request.ts}
        orders = tuple(sorted(bought, key=lambda item: (bought[item], item), reverse=True)[:10])
        (answer,) = engine.answer(
            [SearchRequest(request.request_id, request.ts, request.user, request.query, 10, recent_queries=tuple(queries),
                           recent_items=tuple(items), recent_orders=orders)],
            RewardWeights(), snapshot,
        )  # fmt: skip
        shown = [item.item for item in answer.items]
        outcome = lab.world.feedback(request, shown)
        clicked, ordered = {c.item for c in outcome.clicks}, {o.item for o in outcome.orders}
        worth = item_reward(
            lab.world.tiers(request.query, shown), lab.world.click_probability(request, shown),
            [item in clicked for item in shown], [item in ordered for item in shown], RewardWeights(),
        )  # fmt: skip
        row = {name: column[n] for name, column in played["frozen"].stream.columns.items()}
        assert row["reward_per_search"] == pytest.approx(float(np.mean(worth)), rel=1e-12), request
        assert row["clicks_per_search"] == len(clicked) and row["orders_per_search"] == len(ordered)
        places = [k for k, item in enumerate(shown, start=1) if item in ordered]
        assert row["order_mrr10"] == (1 / places[0] if places else 0.0)


def snapshot_of_history(lab: Lab) -> PosteriorSnapshot:
    """The newest snapshot by the first live request, from a plane that sees the log event by event."""
    from headrace.ablation.plane import Plane

    plane = Plane(lab.parts.catalogue, lab.parts.relevance, lab.prefixes, lab.settings, lab.world.live_ms)
    for event in lab.history:
        plane.advance(event.ts)
        plane.offer([event])
    plane.advance(lab.requests[0].ts)
    return plane.rates(plane.pointer)


def test_a_request_s_candidates_are_all_that_any_arm_may_show(lab: Lab) -> None:
    """They limit what is shown, live and when the withheld queries are asked."""
    some = lab.world.catalogue.items[:15]
    limited = dataclasses.replace(
        lab,
        requests=tuple(r._replace(candidates=some) for r in lab.requests[:8]),
        probes=tuple(r._replace(candidates=some) for r in lab.probes),
    )
    for arm in chosen(["frozen", "bm25", "click_memory", "tier_ctr"]):
        pages: list[tuple[str, ...]] = []
        with pytest.MonkeyPatch.context() as patch:
            page = Judge.page
            patch.setattr(Judge, "page", lambda *a, p=page, into=pages: into.append(tuple(a[2])) or p(*a))
            play(limited, arm, setup_of(lab.settings, LOOP, arm))
        assert len(pages) == 20 and all(pages), arm.name
        assert {item for shown in pages for item in shown} <= set(some), arm.name


def test_the_table_s_page_is_the_best_by_true_tier_and_posterior(lab: Lab) -> None:
    """A slow oracle over the whole catalogue at the first request."""
    (arm,) = chosen(["tier_ctr"])
    table_played = play(dataclasses.replace(lab, requests=lab.requests[:1]), arm, setup_of(lab.settings, LOOP, arm))
    request, snapshot, catalogue = lab.requests[0], snapshot_of_history(lab), lab.world.catalogue
    score = {}
    for item, since in zip(catalogue.items, catalogue.available_from_N.tolist(), strict=True):
        if since <= request.ts:
            tier, ctr = (
                int(lab.world.tiers(request.query, [item])[0]),
                snapshot.ctr(normalise(request.query), [item]).mean_N[0],
            )
            score[item] = 4 * tier + 4 * np.log(ctr)  # `reward.serving`'s scales
    best = sorted(score, key=lambda item: -score[item])[:10]
    worth, _ = lab.judge.page(request, best)
    assert table_played.stream.columns["reward_per_search"] == [pytest.approx(worth["reward_per_search"])]


def test_another_process_says_what_this_one_says(plan: study.Plan) -> None:
    """Results do not depend on who plays them: a process opens the prepared world by itself."""
    study.run_study(plan)
    task, told = plan.tasks()[0], list[tuple[int, int, str]]()
    here = load(task.path)
    task.path.unlink()
    study.play_apart([task], 1, lambda *said: told.append(said))
    there = load(task.path)
    assert here is not None and there is not None and told[-1][:2] == (48, 48)
    assert msgspec.structs.replace(there, cpu_s=here.cpu_s) == here


def test_steps_and_publications_come_at_the_stated_rate(lab: Lab, played: dict[str, Played]) -> None:
    """48 searches, a step every 4, a publication every 4 steps; the frozen arm takes none."""
    assert played["tpma"].curves["step"][-1] == 12
    assert [p["step"] for p in played["tpma"].publications] == [4, 8, 12]
    assert played["frozen"].curves == {} and played["frozen"].publications == []
    assert {"unique_sids", "constant_groups", "entropy.1", "sft_ce"} <= set(played["tpma"].curves)
    arm = chosen(["loop.gated=false"])[0]
    ungated = play(lab, arm, setup_of(lab.settings, LOOP, arm))
    assert all(p["promoted"] for p in ungated.publications) and len(ungated.publications) == 3


def test_withheld_queries_are_in_nothing_an_arm_learns_from(lab: Lab) -> None:
    """Neither log nor labels nor stream nor a user's past; and there are some."""
    assert len(lab.probes) == 12 and all(lab.world.withheld(p.query) for p in lab.probes)
    assert not any(lab.world.withheld(r.query) for r in lab.requests)
    assert not any(lab.world.withheld(j.query) for j in lab.world.judgments)
    pages = [e for e in lab.history if isinstance(e, Impression)]
    assert not any(lab.world.withheld(query) for page in pages for query in (page.query, *page.recent_queries))
    kept = {page.request_id for page in pages}
    assert all(e.request_id in kept for e in lab.history if isinstance(e, Click))


def test_an_interrupted_study_goes_on_and_says_the_same(plan: study.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the second arm is played: the first is not played again, and the JSON is that of an undisturbed run."""
    whole = study.run_study(plan)
    said = (plan.root / "ablation.json").read_bytes()
    for task in plan.tasks():
        task.path.unlink()
    real, names = study.play, list[str]()

    def interrupted(lab: Lab, arm: Arm, *rest: Any) -> Played:
        names.append(arm.name)
        if names == ["frozen", "bm25"]:
            raise KeyboardInterrupt
        return real(lab, arm, *rest)

    monkeypatch.setattr(study, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run_study(plan)
    assert [load(task.path) is not None for task in plan.tasks()] == [True, False]
    assert study.run_study(plan) == whole and names == ["frozen", "bm25", "bm25"]
    assert (plan.root / "ablation.json").read_bytes() == said
    study.run_study(plan)
    assert len(names) == 3  # nothing is left to play


def test_a_key_hangs_on_all_that_shapes_an_arm_and_on_nothing_else() -> None:
    base = small_settings()
    keys = [arm_key(setup_of(base, LOOP, arm), arm) for arm in chosen(["all"])]
    assert len(set(keys)) == len(keys)
    (arm,) = chosen(["tpma"])
    for other, loop in ((small_settings(8), LOOP), (base, LOOP.model_copy(update={"requests": 47}))):
        assert arm_key(setup_of(other, loop, arm), arm) not in keys
    elsewhere = base.model_copy(update={"store": "/elsewhere", "kafka": "broker:9092"})
    assert arm_key(setup_of(elsewhere, LOOP, arm), msgspec.structs.replace(arm, says="x")) in keys
    assert prepared_key(base, LOOP) == prepared_key(setup_of(base, LOOP, chosen(["learner.group=8"])[0]).settings, LOOP)


def test_every_arm_of_the_table_is_a_change_of_settings_that_exist() -> None:
    """A setting that is gone, or a switch that switches nothing, would compare an arm with itself."""
    base = small_settings()
    setups = {name: setup_of(base, LOOP, arm) for group in table().values() for name, arm in group.items()}
    for name in table()["switches"]:
        assert setups[name] != setups["tpma"], name
    assert setups["tpma_paper"].settings.trainers.learner.loss.gate_item_advantage
    with pytest.raises(InvalidSetting, match=r"learner\.nothing|nothing"):
        setup_of(base, LOOP, chosen(["tpma"], ["learner.nothing=1"])[0])
    with pytest.raises(InvalidValue, match="setting of an arm"):
        chosen(["trainers.policy.d_model=64"])
    with pytest.raises(InvalidValue, match="arm"):
        chosen(["nobody"])
    with pytest.raises(InvalidSetting, match=r"loop\.step_every"):
        setup_of(base, LOOP, chosen(["loop.step_every=0"])[0])
    assert parsed(["a.b=0", "c=paper", "d=true"]) == {"a.b": 0, "c": "paper", "d": True}
    assert chosen(["grpo"], ["learner.group=8"])[0].name == "grpo learner.group=8"


def test_the_base_run_is_the_demo_s_shop_at_a_fixed_time() -> None:
    found = base_settings("shop", 5, LOOP, items=300)
    assert (found.seed, found.shop.seed, found.trainers.learner.seed, found.serving.engine.seed) == (5, 5, 5, 5)
    assert (found.shop.items, found.shop.queries, found.shop.live_requests) == (300, 600, 57)
    assert found.trainers.warm_start.seconds == 0 and found.trainers.warm_start.steps > 0
    assert found == base_settings("shop", 5, LOOP, items=300)
    with pytest.raises(InvalidSetting, match="--items"):
        base_settings("somewhere", 5, LOOP, items=300)


def test_users_past_is_newest_first_each_once_and_before_the_search() -> None:
    users = Users(EngineSettings(recent_queries=2, recent_items=2))
    for ts, query in ((1, "a"), (2, "b"), (3, "c"), (4, "a"), (9, "late")):
        users.did(Impression(ts, f"r{ts}", "u", query, (ShownItem("x", 1),)))
    users.did(Click(5, "u", "x"))
    users.did(Order(6, "u", "x", "o"))
    assert users.recent("u", 5) == (("a", "c"), (), ())
    assert users.recent("u", 6) == (("a", "c"), ("x",), ()) and users.recent("v", 6) == ((), (), ())
    assert users.recent("u", 7).orders == ("x",)


def test_at_most_keeps_people_whole_and_classes_cut_searches_in_thirds() -> None:
    requests = [Request(f"r{n}", n, f"u{n % 3}", "", "q") for n in range(9)]
    kept = at_most(requests, 6, seed=1)
    assert len({r.user for r in kept}) == 2 and [r.ts for r in kept] == sorted(r.ts for r in kept) and len(kept) == 6
    assert at_most(requests, 99, seed=1) == requests
    assert classes(["a"] * 4 + ["b"] * 4 + ["c", "d", "e", "f"]) == {
        "a": "head", "b": "middle", "c": "tail", "d": "tail", "e": "tail", "f": "tail",
    }  # fmt: skip


def test_the_report_s_numbers_are_those_of_the_json_and_of_the_rows(plan: study.Plan, tmp_path: Path) -> None:
    """Means and differences recomputed from the arms' files; the page shows what the JSON holds."""
    found = study.run_study(plan)
    results = {r.arm.name: r for task in plan.tasks() if (r := load(task.path)) is not None}
    rewards = {name: np.array(r.stream["reward_per_search"]) for name, r in results.items()}
    assert found["arms"]["bm25"]["means"]["reward"] == pytest.approx(rewards["bm25"].mean(), rel=1e-12)
    expected = paired_bootstrap(rewards["bm25"], rewards["frozen"], results["frozen"].facts.query)._asdict()
    assert found["paired"]["frozen"]["bm25"]["reward"] == pytest.approx(expected)
    first = np.array(results["bm25"].facts.visits) == 0
    assert found["arms"]["bm25"]["means"]["visits 0: reward"] == pytest.approx(rewards["bm25"][first].mean())
    assert len(results["bm25"].facts.visits) == 48 and len(results["bm25"].probe_query) == 12
    text = section(found, "Does it learn?", "headrace ablate")
    row = next(line for line in text.splitlines() if line.startswith("| `bm25` |"))
    numbers = [float(cell) for cell in re.findall(r"\| (\d+\.\d{4}) ", row)]
    means = found["arms"]["bm25"]["means"]
    assert numbers[:3] == [round(means[m], 4) for m in ("reward", "clicks", "orders")]
    diff = found["paired"]["frozen"]["bm25"]["reward"]
    assert f"{diff['diff']:+.4f} [{diff['low']:+.4f}, {diff['high']:+.4f}]" in row
    assert "prove nothing" in text
    page = tmp_path / "results.md"
    page.write_text("# Results\n\n## Before\n\nx\n\n## Does it learn?\n\nold\n\n## After\n\ny\n")
    write_section(page, text)
    write_section(page, text)
    written = page.read_text()
    assert written.count("## Does it learn?") == 1 and "old" not in written
    assert written.startswith("# Results\n\n## Before\n\nx\n") and written.endswith("## After\n\ny\n")


def test_a_pair_counts_only_pages_and_seeds_that_both_have(plan: study.Plan) -> None:
    """A page without a value in one arm is in neither mean, and another seed has no partner."""
    study.run_study(plan)
    frozen, bm25 = (load(task.path) for task in plan.tasks())
    assert frozen is not None and bm25 is not None
    reward = measures()[0]
    worth: list[float | None] = list(bm25.stream["reward_per_search"])
    worth[0] = None
    holed = msgspec.structs.replace(bm25, stream={**bm25.stream, "reward_per_search": worth})
    diff = values(holed, reward) - values(frozen, reward)
    pair = paired([holed, msgspec.structs.replace(bm25, seed=99)], [frozen], reward)
    assert pair is not None and pair["n"] == 47 and pair["diff"] == pytest.approx(diff[1:].mean())
    assert paired([msgspec.structs.replace(bm25, seed=99)], [frozen], reward) is None


def test_a_verdict_needs_an_interval_above_zero(plan: study.Plan) -> None:
    """The same rows under another name win nothing; rows that are better everywhere win."""
    study.run_study(plan)
    frozen = load(plan.tasks()[0].path)
    assert frozen is not None
    better = [value + 0.1 + 0.01 * n % 0.05 for n, value in enumerate(values(frozen, measures()[0]).tolist())]
    for rows, verdict in ((better, "`tpma` wins"), (frozen.stream["reward_per_search"], "leads, without proof")):
        ours = msgspec.structs.replace(
            frozen, arm=Arm("tpma"), stream={**frozen.stream, "reward_per_search": [float(v or 0) for v in rows]}
        )
        said = verdicts(combine([frozen, ours], LOOP.model_dump()))[0]
        assert said.startswith("reward per search: ") and verdict in said
