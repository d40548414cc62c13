"""Commands that run until they are stopped: one process of the system each, or all of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.common import RunOption, console, open_run

DataOption = Annotated[
    str | None,
    typer.Option("--data", help="`shop` (default), or the path of a data folder (docs/data.md).", show_default=False),
]
ItemsOption = Annotated[int | None, typer.Option("--items", min=100, help="Items of the catalogue.", show_default=False)]
RanksOption = Annotated[
    int, typer.Option("--ranks", min=1, max=256, help="Processes of this machine that take the learner's steps together.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of every random number; default 1.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(worker)
    app.command()(learn)
    app.command()(serve)
    app.command(name="console")(console_page)
    app.command()(prepare)
    app.command()(ticks)


def up(
    run: Annotated[Path | None, typer.Option("--run", help="Run folder, made when missing; default runs/<time>/.")] = None,
    data: DataOption = None,
    seed: SeedOption = None,
    items: ItemsOption = None,
    ranks: RanksOption = 1,
) -> None:
    """Start all services and workers, and keep them up until Ctrl-C.

    A new run folder is prepared first (identifiers, relevance scorer, warm start); an old one goes on where it stopped.
    """
    from headrace.up import run_up

    run_up(run, data=data, seed=seed, items=items, ranks=ranks)


def worker(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="attribution, posteriors, rewarding, integrity; or keywords, alone."),
    ],
    run: RunOption = None,
    instance: Annotated[
        str | None,
        typer.Option(
            help="Name of this process that no other worker of the kind has: a restart under it takes its partitions back "
            "at once.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a stream worker, or several in one process. Start as many as the topics have partitions.

    Several in one process (`headrace worker attribution integrity`) take less memory. A worker is either always apart or
    always beside the same others: in two kinds of process at once it would take its partitions from itself.
    """
    from headrace.processes import run_worker

    run_worker(names, *open_run(run), instance)


def learn(
    run: RunOption = None,
    ranks: RanksOption = 1,
) -> None:
    """Run the learner: training examples in, checkpoints out. `headrace up` runs one already; two are refused.

    Over several machines torchrun starts the ranks: `torchrun --nnodes 2 ... -m headrace.cli -- learn --run FOLDER`.
    """
    from headrace.processes import run_learner
    from headrace.ranks import others

    again = ("learn", *(("--run", str(run)) if run else ()))
    with others(ranks, (sys.executable, "-m", "headrace.cli", *again)):
        run_learner(*open_run(run))


def serve(run: RunOption = None) -> None:
    """Run the search server."""
    from headrace.processes import run_server

    run_server(*open_run(run))


def console_page(run: RunOption = None) -> None:
    """Run the web console for operators."""
    from headrace.processes import run_console

    run_console(*open_run(run))


def prepare(
    run: RunOption = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Make them anew where the store has them: a new warm start, a new line of training."),
    ] = False,
) -> None:
    """Make a run's artefacts: embeddings, identifiers, relevance scorer, warm-started policy.

    Where the store has them already nothing is made, unless --again asks for it.
    """
    from headrace.errand import give_result, is_errand, tell_parent
    from headrace.story import Story
    from schemas.artefacts import PATH
    from schemas.store import Store

    folder, settings = open_run(run)
    if not (again or is_errand()) and Store(settings.store).exists(PATH):
        said = f"Prepared already: {settings.store}/{PATH} is there. `headrace prepare --again` makes all of it anew."
        console.print(said, soft_wrap=True)
        return
    from headrace.prepare import run_prepare

    if is_errand():  # who asks has looked
        give_result(run_prepare(folder, settings, tell_parent))
        return
    story = Story()
    with story.errand() as tell:
        prepared = run_prepare(folder, settings, tell)
    for note in prepared.notes:
        story.say(note)


def ticks(
    every: Annotated[float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two ticks.")] = 1.0,
    run: RunOption = None,
) -> None:
    """Send the present time to every event topic, so that silence closes windows too. One such process is enough.

    `headrace up` does this by itself.
    """
    from headrace.processes import run_clock

    run_clock(every, *open_run(run))
