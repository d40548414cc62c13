"""`headrace lineage` and `replay-training`: which events made a checkpoint, and the proof that they do."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.commands.watching import watched
from headrace.terminal import coloured

if TYPE_CHECKING:
    from schemas.store import Store
    from trainers.lineage import Stretch


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(lineage)
    app.command("replay-training")(replay_training)
    app.command("leave-out")(leave_out)


def lineage(
    checkpoint: Annotated[
        str, typer.Argument(help="Id of the checkpoint; default: the newest of the present warm start.")
    ] = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """List what made a checkpoint, back to the warm start: steps, offsets read, versions of weights, snapshots and settings."""
    from schemas.store import Store
    from trainers import checkpoints
    from trainers.journal import read_journal
    from trainers.lineage import lineage as descent
    from trainers.lines import Line

    _, settings = open_live_run(run)
    store = Store(settings.store)
    name = checkpoint or _newest(store)
    line = Line.of(store, checkpoints.read(store, name))
    found = descent(store, read_journal(settings.connections, line=line), name)
    console.print(lineage_table(found))
    emit(found, json)


def leave_out(
    why: Annotated[str, typer.Option("--why", help="Kept in the journal.")],
    run: RunOption = None,
) -> None:
    """Go on without the step at which the learner ends whenever it is started. What it was to read counts as read; no weight changes.

    A learner that still runs ends with `Conflict`; start it again.
    """
    from schemas.artefacts import Artefacts
    from schemas.store import Store
    from trainers.leaving_out import leave_out as without

    _, settings = open_live_run(run)
    store = Store(settings.store)
    intent = without(settings.connections, store, Artefacts.load(store), why)
    console.print(f"step {intent.step} is left out from the learner's next start on", highlight=False)


def replay_training(
    to: Annotated[str, typer.Option("--to", help="Checkpoint to make again.")],
    start: Annotated[
        str, typer.Option("--from", help="Checkpoint to start at; default: the one that --to continues.", show_default=False)
    ] = "",
    into: Annotated[
        str, typer.Option("--into", help="Keep what is made in this store (fsspec URL); default: only compare.")
    ] = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Take the journalled steps between two checkpoints again and compare every byte. Exit status 1 when one differs."""
    from msgspec.structs import replace

    from reward.settings import RewardSettings
    from schemas.artefacts import Artefacts
    from schemas.store import Store
    from trainers import checkpoints
    from trainers.policies.base import Policy
    from trainers.remake import parent_of, remake
    from trainers.served import start_of
    from trainers.settings import LearnerSettings
    from trainers.tools import Tools, open_tools

    _, settings = open_live_run(run)
    store = Store(settings.store)
    # Of a line that another warm start has replaced since: its own start is its reference, and has its pairs.
    begun = start_of(store, checkpoints.read(store, to)).checkpoint
    artefacts, reward = replace(Artefacts.load(store), frozen=begun), settings.reward or RewardSettings()

    def tools(policy: Policy, chosen: LearnerSettings) -> Tools:
        return open_tools(store, artefacts, policy, chosen, reward)

    with tempfile.TemporaryDirectory(prefix="headrace-remade-") as scratch, watched("Taking the steps again") as tell:
        target = Store(into or scratch)
        made = remake(settings.connections, store, target, artefacts, start or parent_of(store, to), to, tools, tell)
    if made.differing:
        console.print(coloured(("differs", "red"), f" after {made.steps} steps: {', '.join(made.differing)}"))
    else:
        console.print(f"{made.steps} steps taken again: {to} is the same to the last bit", highlight=False)
    emit({"checkpoint": to, "steps": made.steps, "identical": not made.differing, "differing": made.differing}, json)
    if made.differing:
        raise typer.Exit(1)


def _newest(store: Store) -> str:
    from schemas.artefacts import Artefacts
    from schemas.errors import Unavailable
    from trainers.checkpoints import ROOT
    from trainers.lines import Line

    line = Line(store, Artefacts.load(store).frozen)
    for name in reversed(store.names(ROOT)):
        if line.has_named(name):
            return name
    raise Unavailable("a checkpoint", f"none is in {store.url}", "make a warm start with `headrace prepare`")


def lineage_table(line: list[Stretch]) -> Table:
    """A row a checkpoint; on 80 columns each cell is whole, and what is rare stands below the id."""
    table = Table(
        box=None, padding=(0, 1, 0, 0), pad_edge=False, caption="read: examples by partition", caption_justify="left"
    )
    table.add_column("checkpoint", min_width=len(line[0].checkpoint))  # an id is there to be copied
    for column in ("steps", "read", "prompts", "weights", "snapshots", "gate"):
        table.add_column(column, no_wrap=column in ("steps", "read"))
    for one in line:
        about = [
            one.checkpoint,
            *([] if one.whole else ["manifest alone"]),
            *(f"{name} changed" for name in one.settings_changed),
            *(f"from step {step + 1} on {back}" for step, back in one.gone_back),
        ]
        steps = "start" if not one.parent else f"{one.first_step}-{one.last_step}"
        read = "\n".join(f"{p}: {low}-{high}" for p, (low, high) in one.offsets.items())
        gate = {None: "", True: "promoted", False: "kept back"}[one.promoted]
        versions = [_span(one.weights_versions), _span(one.snapshot_versions)]
        table.add_row("\n".join(about), steps, read, str(one.prompts), *versions, gate)
    return table


def _span(versions: tuple[int, ...]) -> str:
    return "-".join(map(str, versions[:1] + versions[1:][-1:]))
