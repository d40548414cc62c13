"""`headrace weights|campaigns preview|effect`: what a decision would do, and what one has done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import deciding
from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from schemas.decisions import DEFAULTS

if TYPE_CHECKING:
    from headrace.settings import Settings
    from reward.desk.desk import Desk
    from reward.desk.wishes import Wish
    from reward.preview.service import Previews
    from schemas.weights import RewardWeights

CountOption = Annotated[
    int | None,
    typer.Option("--examples", help="Newest so many stored examples; default reward.preview.examples.", show_default=False),
]


def register(weights: typer.Typer, campaigns: typer.Typer) -> None:
    """Add the commands to their groups."""
    weights.command(name="preview")(preview_weights)
    weights.command(name="effect")(effect)
    campaigns.command(name="preview")(preview_campaign)
    campaigns.command(name="effect")(effect_of_campaign)


def preview_weights(
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="relevance=, ctr=, click=, order=; none: the waiting draft", metavar="[NAME=VALUE]..."),
    ] = None,
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what other default weights would do to the newest pages; nothing is changed.

    Example: headrace weights preview order=8 click=5
    """
    from reward.desk.wishes import wish

    _preview(DEFAULTS, wish(deciding.numbers(changes)) if changes else None, examples, run, json)


def preview_campaign(
    campaign: Annotated[
        str, typer.Argument(help="Id with a waiting draft, or a YAML or JSON file named by the id.", metavar="ID|FILE")
    ],
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what a campaign would do to the newest pages; nothing is changed.

    Example: headrace campaigns preview black-friday
    """
    from reward.desk.wishes import read_wish, wish

    file = Path(campaign)
    if file.is_file():
        _preview(file.stem, wish(read_wish(file)), examples, run, json)
    else:
        _preview(campaign, None, examples, run, json)


def effect(
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Default: the active one.", show_default=False)
    ] = None,
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what a version of the weights has done: its pages against those of the control share since."""
    desk = deciding.at(run).desk
    _effect(desk, desk.book(version), examples, run, json)


def effect_of_campaign(
    campaign: Annotated[str, typer.Argument(help="Id of the campaign.", metavar="ID")],
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what the last change of a campaign has done: its pages against those of the control share since."""
    from reward.preview.drafts import book_that_changed

    desk = deciding.at(run).desk
    _effect(desk, book_that_changed(desk, campaign), examples, run, json)


def _preview(subject: str, wanted: Wish | None, examples: int | None, run: Path | None, json: Path | None) -> None:
    from headrace.preview_tables import told_preview
    from reward.preview.drafts import asked_for

    previews, _ = _open(run, examples)
    here = deciding.at(run, live=True)
    found = previews.of_draft(here.desk, asked_for(here.desk, subject, wanted, None, here.actor.name))
    _print(told_preview(found))
    emit(found, json)


def _effect(desk: Desk, book: RewardWeights, examples: int | None, run: Path | None, json: Path | None) -> None:
    from headrace.preview_tables import told_effect

    previews, settings = _open(run, examples)
    found = previews.effect(desk, book, settings.serving.control_share)
    _print(told_effect(found))
    emit(found, json)


def _open(run: Path | None, examples: int | None) -> tuple[Previews, Settings]:
    from headrace.previewing import previews_of

    folder, settings = open_live_run(run)
    return previews_of(settings, settings.store or str(folder.store), examples), settings


def _print(parts: Iterable[Any]) -> None:
    for part in parts:
        console.print(part, highlight=False)
