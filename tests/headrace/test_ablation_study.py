"""An ablation's study: it resumes, other processes say the same, and the report says what the JSON says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from headrace.ablation import study
from headrace.ablation.arms import Arm, chosen
from headrace.ablation.combine import combine
from headrace.ablation.lab import Lab
from headrace.ablation.loop import Played
from headrace.ablation.measures import measures, paired, values
from headrace.ablation.page import section, verdicts, write_section
from headrace.ablation.results import load
from tests.headrace.ablation_toys import LOOP, small_settings
from tests.headrace.test_services import gone, until
from trainers.evaluation import paired_bootstrap

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def plan(ablation_root: Path, monkeypatch: pytest.MonkeyPatch) -> study.Plan:
    """Two arms over the small shop, in place of the demo's."""
    monkeypatch.setattr(study, "base_settings", lambda *_: small_settings())
    return study.Plan(ablation_root, "shop", (7,), tuple(chosen(["frozen", "bm25"])), LOOP)


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


@pytest.mark.slow
def test_a_study_that_is_killed_leaves_no_process_that_plays_on(tmp_path: Path) -> None:
    """They would play for an hour, for nobody, and keep the folder's locks."""
    command = [sys.executable, "-m", "headrace.cli", "ablate", "--quick", "--jobs", "2", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        try:
            until(lambda: len(players(parent.pid)) == 2, 60, "two players")
            playing = players(parent.pid)
        finally:
            parent.kill()
    until(lambda: all(map(gone, playing)), 60, "their end")  # one that still imports ends when it has


def players(pid: int) -> list[int]:
    """The processes of a study that play, or are about to."""
    return [child.pid for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


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


def test_runs_of_a_learner_differ_in_its_draws_alone_and_are_averaged(plan: study.Plan) -> None:
    """Two runs of a learner, one of what has none: the first is the arm as it is played without runs, and what is told is the
    mean of both, with the interval of the runs' rows."""
    twice = replace(plan, arms=tuple(chosen(["frozen", "tpma"])), runs=2)
    tasks = twice.tasks()
    assert [(task.arm.name, task.run) for task in tasks] == [("frozen", 0), ("tpma", 0), ("tpma", 1)]
    assert tasks[:2] == replace(twice, runs=1).tasks() and tasks[2].arm.set == {"learner.seed": 7 + 1}
    found = study.run_study(twice)
    frozen, first, second = (load(task.path) for task in tasks)
    assert frozen is not None and first is not None and second is not None
    assert first.curves["loss"] != second.curves["loss"] and first.facts == second.facts
    # The toy's gate lets nothing through: pages of their own show how they are put together.
    worth = np.array(frozen.stream["reward_per_search"], dtype=np.float64)
    rows_Dn = np.stack([worth + 0.5, worth + np.arange(len(worth)) % 3])
    runs = [
        msgspec.structs.replace(one, stream={**one.stream, "reward_per_search": row_n.tolist()})
        for one, row_n in zip((first, second), rows_Dn, strict=True)
    ]
    told = combine([frozen, *runs], LOOP.model_dump())
    assert told["arms"]["tpma"]["runs"] == 2 == found["arms"]["tpma"]["runs"] and found["arms"]["frozen"]["runs"] == 1
    assert told["arms"]["tpma"]["means"]["reward"] == pytest.approx(rows_Dn.mean())
    assert [(one["seed"], one["run"], one["reward"]) for one in told["arms"]["tpma"]["by_run"]] == [
        (7, 0, pytest.approx(rows_Dn[0].mean())), (7, 1, pytest.approx(rows_Dn[1].mean())),
    ]  # fmt: skip
    expected = paired_bootstrap(rows_Dn, worth, frozen.facts.query)._asdict()
    assert told["paired"]["frozen"]["tpma"]["reward"] == pytest.approx(expected)
    assert "2 runs" in section(told, "Does it learn?", "headrace ablate")


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
    """Rows that are better everywhere win, rows better at the first search alone lead, and the same under another name do neither."""
    study.run_study(plan)
    frozen = load(plan.tasks()[0].path)
    assert frozen is not None
    same = values(frozen, measures()[0]).tolist()
    better = [value + 0.1 + 0.01 * n % 0.05 for n, value in enumerate(same)]
    once = [same[0] + 0.1, *same[1:]]
    for rows, verdict in ((better, "`tpma` wins"), (once, "`tpma` leads, without proof"), (same, "all alike, ")):
        ours = msgspec.structs.replace(frozen, arm=Arm("tpma"), stream={**frozen.stream, "reward_per_search": rows})
        said = verdicts(combine([frozen, ours], LOOP.model_dump()))[0]
        assert said.startswith("reward per search: ") and verdict in said
