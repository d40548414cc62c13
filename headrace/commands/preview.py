"""`headrace weights|campaigns preview|effect`: what a decision would do, and what one has done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run

if TYPE_CHECKING:
    from headrace.settings import Settings
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
        list[str], typer.Argument(help="relevance=, ctr=, click=, order=, each 0 to 100", metavar="NAME=VALUE...")
    ],
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what other default weights would do to the newest pages; nothing is changed."""
    from reward.preview.drafts import with_weights

    _, previews = _open(run, examples)
    current = previews.active()
    _preview(previews, current, with_weights(current, changes), json)


def preview_campaign(
    campaign: Annotated[Path, typer.Argument(help="File (JSON) with the campaign.", metavar="FILE")],
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what a campaign would do to the newest pages, from its start on; nothing is changed."""
    from reward.preview.drafts import read_campaign, with_campaign

    _, previews = _open(run, examples)
    current = previews.active()
    _preview(previews, current, with_campaign(current, read_campaign(campaign)), json)


def effect(examples: CountOption = None, run: RunOption = None, json: JsonOption = None) -> None:
    """Show what the last change has done: its pages against those of the control share since."""
    settings, previews = _open(run, examples)
    _effect(settings, previews, previews.active(), json)


def effect_of_campaign(
    campaign: Annotated[str, typer.Argument(help="Id of the campaign.", metavar="ID")],
    examples: CountOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what the last change has done, if it is this campaign's."""
    from reward.preview.drafts import changed_by

    settings, previews = _open(run, examples)
    book = previews.active()
    changed_by(book, campaign)
    _effect(settings, previews, book, json)


def _open(run: Path | None, examples: int | None) -> tuple[Settings, Previews]:
    from reward.preview.service import Previews
    from schemas.store import Store

    _, settings = open_live_run(run)
    expected = settings.trainers.learner.interaction == "expected"
    store = Store(settings.store)
    return settings, Previews(settings.connections, store, settings.reward, count=examples, expected_interaction=expected)


def _preview(previews: Previews, current: RewardWeights, draft: RewardWeights, json: Path | None) -> None:
    from headrace.preview_tables import preview_tables

    found = previews.preview(current, draft)
    _print(preview_tables(found))
    emit(found, json)


def _effect(settings: Settings, previews: Previews, book: RewardWeights, json: Path | None) -> None:
    from headrace.preview_tables import effect_tables

    found = previews.effect(book, settings.serving.control_share)
    _print(effect_tables(found))
    emit(found, json)


def _print(parts: Iterable[Any]) -> None:
    for part in parts:
        console.print(part, highlight=False)
