"""`headrace weights`: reward weights as versioned decisions."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.table import Table

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run, open_run
from schemas.weights import RewardWeights

app = typer.Typer(help="Show and change the reward weights; a change acts on the next search and the next gradient step.")


@app.command()
def show(run: RunOption = None, json: JsonOption = None) -> None:
    """Show the active weights and the versions before them."""
    from reward.weights import WeightStore
    from schemas.database import open_database

    _, settings = open_run(run)
    store = WeightStore(open_database(settings.connections))
    history = sorted(store.history(), key=lambda w: w.version)
    table = Table("version", "relevance", "ctr", "click", "order", "by", "why", title="Reward weights")
    for w in history:
        table.add_row(str(w.version), f"{w.relevance:g}", f"{w.ctr:g}", f"{w.click:g}", f"{w.order:g}", w.author, w.reason)
    console.print(table)
    emit({"active": store.active(), "history": history}, json)


@app.command(name="set")
def set_weights(
    changes: Annotated[
        list[str], typer.Argument(help="relevance=, ctr=, click=, order=, each 0 to 100", metavar="NAME=VALUE...")
    ],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the version.")] = "set from the command line",
    expect: Annotated[int | None, typer.Option("--expect", help="Refuse if the active version is another.")] = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Make a new version of the weights and publish it."""
    from reward.weights import WeightStore, publish_outbox
    from schemas.database import open_database

    _, settings = open_live_run(run, needs_kafka=False)
    engine = open_database(settings.connections)
    weights = WeightStore(engine).set(_parse(changes), author=getpass.getuser(), reason=why, expected_version=expect)
    publish_outbox(engine, settings.connections)
    _say(weights)
    emit(weights, json)


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(help="The version whose weights come back.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the version.")] = "rolled back",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Bring an earlier version's weights back, as a new version."""
    from reward.weights import WeightStore, publish_outbox
    from schemas.database import open_database

    _, settings = open_live_run(run, needs_kafka=False)
    engine = open_database(settings.connections)
    weights = WeightStore(engine).rollback(version, author=getpass.getuser(), reason=why)
    publish_outbox(engine, settings.connections)
    _say(weights)
    emit(weights, json)


def _say(weights: RewardWeights) -> None:
    console.print(
        f"version {weights.version}: relevance {weights.relevance:g}, ctr {weights.ctr:g}, "
        f"click {weights.click:g}, order {weights.order:g}"
    )


def _parse(changes: list[str]) -> dict[str, float]:
    from schemas.errors import InvalidRequest

    parsed: dict[str, float] = {}
    for change in changes:
        name, _, value = change.partition("=")
        try:
            parsed[name] = float(value)
        except ValueError as error:
            raise InvalidRequest("weight", change, "NAME=NUMBER", "write for example `order=8`") from error
    return parsed
