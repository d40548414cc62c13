"""`headrace demo` and `headrace evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.common import JsonOption, RunOption, console, emit, open_run, stopped
from headrace.commands.services import DataOption, ItemsOption, SeedOption
from headrace.terminal import coloured


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(evaluate)


def demo(
    data: DataOption = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.2, max=600, help="Wall minutes, everything together.")] = 5.0,
    seed: SeedOption = None,
    items: ItemsOption = None,
    report: Annotated[Path | None, typer.Option("--report", help="Folder of the report; default runs/<time>/.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up after the report, until Ctrl-C.")] = False,
    own_services: Annotated[
        bool,
        typer.Option(
            "--own-services", help="Simulated events, weights and artefacts may go to services that have an address."
        ),
    ] = False,
    json: JsonOption = None,
) -> None:
    """Watch a search model learn from a live Kafka stream, and get a report.

    Starts a real Kafka, Redis and database, prepares a shop (or your data), warm-starts a model, lets people shop through the
    search server while the learner learns, changes the reward weights half-way, and compares what was served with the frozen
    warm start. Exit status 0: the loop closed, with the change of weights in it, and no event was lost.
    """
    from headrace.demo.run import run_demo

    result = run_demo(
        data=data, minutes=minutes, seed=seed, items=items, report=report, keep=keep, own_services=own_services
    )
    emit(result.report, json)
    if not result.ok:
        console.print(coloured(("The loop did not close:", "red"), f" {result.why}"))
        raise typer.Exit(1)


def evaluate(run: RunOption = None, json: JsonOption = None) -> None:
    """Compare what was served in a run with the frozen warm start and the yardsticks, on the same requests and draws."""
    from headrace.errand import give_result, is_errand, tell_parent
    from headrace.evaluation.run import run_evaluation
    from headrace.report.tables import quality_table
    from headrace.stack import open_stack
    from headrace.story import Story

    if is_errand():
        give_result(run_evaluation(*open_run(run), tell_parent))
        return
    folder, settings = open_run(run)
    with ExitStack() as context:
        if stopped(folder, settings):  # a finished run: its services come up for as long as they are read
            settings = context.enter_context(open_stack(folder, settings)).settings
        with Story().stage("evaluation", "Online against frozen, BM25 and a click memory") as stage:
            quality = run_evaluation(folder, settings, lambda text, share: stage.update(share, text))
    console.print(quality_table(quality))
    emit(quality, json)
