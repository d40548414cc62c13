"""`headrace ablate`: arms of the learner against each other in the closed loop, and what the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.common import JsonOption, console, emit
from headrace.commands.services import DataOption, ItemsOption
from headrace.commands.watching import watched
from headrace.terminal import terminal

#: What `--quick` plays.
QUICK_REQUESTS, QUICK_ARMS = 120, "frozen,tpma"


ArmsOption = Annotated[
    str,
    typer.Option(
        "--arms",
        "--arm",
        help="Names, separated by commas: of arms, of their groups (arms, yardsticks, switches, all), or "
        "ARM+SETTING=VALUE+... for one with settings of its own; SETTING=VALUE is the default learner's.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="SETTING=VALUE over every arm named, as learner.loss.entropy=0; may be given again."),
]
SeedsOption = Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas: world, warm start and draws.")]
RunsOption = Annotated[
    int,
    typer.Option("--runs", min=1, help="Runs of every learner on each seed, each with its own draws; intervals count them."),
]
RequestsOption = Annotated[
    int | None, typer.Option("--requests", min=1, help="Live searches of each seed; default 4,000.", show_default=False)
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=256, help="Arms played at a time, each in a process.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where worlds and results are kept; the same folder goes on.")]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Put the section into this markdown file.", show_default=False)
]
QuickOption = Annotated[bool, typer.Option("--quick", help="A minute: two arms, few searches. It proves nothing.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ablate)


def ablate(
    arms: ArmsOption = "arms,yardsticks",
    set_: SetOption = None,
    seeds: SeedsOption = "1,2,3",
    runs: RunsOption = 1,
    requests: RequestsOption = None,
    data: DataOption = None,
    items: ItemsOption = None,
    jobs: JobsOption = 1,
    folder: FolderOption = Path("runs/ablation"),
    report: ReportOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Does it learn? Play learners, yardsticks and single settings in the closed loop, and compare them in pairs.

    Everything runs in this process, without Kafka: the product's own cores in the order of event time. Every arm starts from the
    same warm start and meets the same searches, users and draws. What is done is kept: a second call goes on where the
    first one ended, and plays nothing twice.
    """
    from headrace.ablation.arms import chosen
    from headrace.ablation.page import section, write_section
    from headrace.ablation.settings import LoopSettings
    from headrace.ablation.study import Plan, run_study

    if quick:
        requests, seeds = requests or QUICK_REQUESTS, "1" if seeds == "1,2,3" else seeds
        arms = QUICK_ARMS if arms == "arms,yardsticks" else arms
    loop = LoopSettings(requests=requests) if requests else LoopSettings()
    if quick:
        loop = loop.model_copy(update={"publish_every": 10, "probes": 40})
    picked = tuple(chosen([name.strip() for name in arms.split(",")], set_ or ()))
    data = data or "shop"
    plan = Plan(folder, data, tuple(map(_seed, seeds.split(","))), picked, loop, items, quick, runs)
    try:
        with watched("Ablation") as tell:
            found = run_study(plan, jobs, tell)
    except KeyboardInterrupt:
        terminal(stderr=True).print(f"arms that are done are kept in {folder}; the same call goes on from there")
        raise
    title = "Does it learn? The built-in shop" if data == "shop" else f"Does it learn? {Path(data).name}"
    text = section(found, title, _command(data, seeds, runs, requests, arms, set_ or []), proof=not quick)
    (folder / "ablation.md").write_text(text)
    if report is not None:
        write_section(report, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    emit(found, json)


def _seed(text: str) -> int:
    from schemas.errors import InvalidValue

    if not text.strip().isdecimal():
        raise InvalidValue("--seeds", text, "whole numbers from 0, separated by commas", "for example 1,2,3")
    return int(text)


def _command(data: str, seeds: str, runs: int, requests: int | None, arms: str, changes: list[str]) -> str:
    said = [f"--data {data}"] if data != "shop" else []
    said += [f"--arms {arms}", f"--seeds {seeds}", *([f"--runs {runs}"] if runs > 1 else [])]
    said += [f"--requests {requests}"] if requests else []
    return " ".join(("headrace ablate", *said, *(f"--set {change}" for change in changes)))
