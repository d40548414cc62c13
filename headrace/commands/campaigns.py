"""`headrace campaigns`: weights and multipliers for some requests and items, for some time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.commands import deciding, weights
from headrace.commands.common import JsonOption, RunOption, emit, open_live_run
from headrace.commands.deciding import At, ExpectOption, OverrideOption, WhyOption, at
from headrace.commands.weights import AcceptOption, StateOption
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS

if TYPE_CHECKING:
    from reward.desk.wishes import Wish

app = typer.Typer(help="Draft, start, end and undo campaigns: other weights for some requests and items, for some time.")
app.command()(weights.rollback)

Id = Annotated[str, typer.Argument(help="Id of the campaign: a-z, 0-9 and -.", metavar="ID")]
Many = list[str] | None
Some = float | None


def _some(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default=False)


@app.command(name="list")
def list_campaigns(state: StateOption = None, run: RunOption = None, json: JsonOption = None) -> None:
    """List the campaigns and where they stand; `draft` finds all that have a waiting draft."""
    found = [one for one in at(run).desk.standings(state or ()) if one.subject != DEFAULTS]
    deciding.show_standings(found, "Campaigns")
    emit(found, json)


@app.command()
def show(campaign: Id, run: RunOption = None, json: JsonOption = None) -> None:
    """Show the life of a campaign, and the campaigns that it meets."""
    desk = at(run).desk
    standing, rows = desk.standing(campaign), desk.revisions(campaign)
    overlaps = desk.overlaps(campaign, desk.book_with(standing.draft.body) if standing.draft else None)
    deciding.show_revisions(rows, f"Campaign {campaign}: {standing.state}")
    deciding.show_overlaps(overlaps)
    emit({"standing": standing, "revisions": rows, "overlaps": overlaps}, json)


@app.command()
def draft(
    campaign: Id,
    file: Annotated[Path | None, _some("--file", "YAML or JSON with the whole campaign; options go over it.")] = None,
    name: Annotated[str | None, _some("--name", "What people call it.")] = None,
    owner: Annotated[str | None, _some("--owner", "Whose it is; default: who drafts.")] = None,
    category: Annotated[Many, _some("--category", "Only items of this category; several times.")] = None,
    brand: Annotated[Many, _some("--brand", "Only items of this brand; several times.")] = None,
    query: Annotated[Many, _some("--query", "Only for this query; several times.")] = None,
    segment: Annotated[Many, _some("--segment", "Only for users of this segment; several times.")] = None,
    market: Annotated[Many, _some("--market", "Only in this market; several times.")] = None,
    starts: Annotated[str | None, _some("--from", "When it starts, ISO 8601; default: at once.")] = None,
    ends: Annotated[str | None, _some("--to", "When it ends, ISO 8601; default: never.")] = None,
    zone: Annotated[str | None, _some("--zone", "IANA time zone of times without a UTC offset; default UTC.")] = None,
    accept_clock_change: AcceptOption = False,
    priority: Annotated[int | None, _some("--priority", "0 to 1000, the higher wins; default 100.")] = None,
    relevance: Annotated[Some, _some("--relevance", "Weight of the relevance tier, 0 to 100.")] = None,
    ctr: Annotated[Some, _some("--ctr", "Weight of the click rate, 0 to 100.")] = None,
    click: Annotated[Some, _some("--click", "Weight of a click, 0 to 100.")] = None,
    order: Annotated[Some, _some("--order", "Weight of an order, 0 to 100.")] = None,
    margin: Annotated[Some, _some("--margin", "Factor for items that are all margin, 0.5 to 2.")] = None,
    new_items: Annotated[Some, _some("--new-items", "Factor for new items, 0.5 to 2.")] = None,
    new_days: Annotated[Some, _some("--new-days", "Days for which an item is new; default 14.")] = None,
    brand_factor: Annotated[Many, _some("--brand-factor", "BRAND=FACTOR, 0.5 to 2; several times.")] = None,
    why: WhyOption = "drafted from the command line",
    expect: ExpectOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Write a draft, or change it; nothing acts before it is activated or scheduled.

    What is not given stays as it was in the draft, or in what acts.

    Example: headrace campaigns draft black-friday --category shoes --from 2026-11-27T00:00 --to 2026-11-30T00:00
    --zone Europe/Berlin --order 8 --brand-factor Tessaro=1.2 --why "sell shoes"
    """
    here = at(run)
    scope = {"categories": category, "brands": brand, "queries": query, "segments": segment, "markets": market}
    factors = deciding.numbers(brand_factor, "--brand-factor", "BRAND=FACTOR", "Tessaro=1.2") if brand_factor else None
    lean = {"margin": margin, "new_items": new_items, "new_days": new_days, "brands": factors}
    given = {
        "name": name, "owner": owner, "scope": _given(scope), "from": starts, "to": ends, "zone": zone,
        "accept_clock_change": accept_clock_change or None, "priority": priority, "relevance": relevance, "ctr": ctr,
        "click": click, "order": order, "multipliers": _given(lean),
    }  # fmt: skip
    acted = here.desk.draft(campaign, _wish(here, campaign, file, _given(given)), here.actor, why, expect)
    acted = msgspec.structs.replace(acted, warnings=(*acted.warnings, *_unseen(run, acted.decision.body)))
    deciding.say(acted)
    emit(acted, json)


@app.command()
def activate(
    campaign: Id,
    why: WhyOption = "activated from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Bring the draft into force now, and publish it; of what is scheduled, start at once.

    Example: headrace campaigns activate black-friday --why "approved in the meeting"
    """
    deciding.act(at(run, live=True), "activate", campaign, why, expect, json, override=override)


@app.command()
def schedule(
    campaign: Id,
    why: WhyOption = "scheduled from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Let the draft start when it says, and publish it."""
    deciding.act(at(run, live=True), "schedule", campaign, why, expect, json, override=override)


@app.command()
def end(
    campaign: Id,
    why: WhyOption = "ended from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """End a campaign now, or take it out of the schedule; what it lay over holds again."""
    deciding.act(at(run, live=True), "end", campaign, why, expect, json, override=override)


@app.command()
def diff(
    campaign: Id,
    old: Annotated[int | None, typer.Argument(help="A revision.", show_default=False)] = None,
    new: Annotated[int | None, typer.Argument(help="Another; default: the newest.", show_default=False)] = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what differs between two revisions, field by field; without them, between the draft and what acts."""
    changes = at(run).desk.diff(campaign, old, new)
    deciding.show_changes(changes)
    emit(changes, json)


@app.command()
def audit(
    campaign: Annotated[str | None, typer.Argument(help="Only this campaign.", metavar="ID", show_default=False)] = None,
    who: Annotated[str | None, _some("--who", "Only what this person did.")] = None,
    action: Annotated[
        str | None, _some("--action", "Only draft, activate, schedule, end, rollback, release window ...")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many.")] = 50,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show who decided what, when and why; of the defaults, tokens and broken windows too."""
    entries = at(run).desk.audit((campaign,) if campaign else (), who, action, limit=limit)
    deciding.show_audit(entries)
    emit(entries, json)


def _wish(here: At, campaign: str, file: Path | None, given: dict[str, Any]) -> Wish:
    """The options over the file, or over the draft, or over what acts."""
    from reward.desk.wishes import read_wish, wish, wish_of
    from schemas.errors import NotFound

    base: dict[str, Any] = {}
    if file is not None:
        base = read_wish(file)
    else:
        try:
            standing = here.desk.standing(campaign)
            base = deciding.plain(wish_of((standing.draft or standing.live).body))  # type: ignore[union-attr]
        except NotFound:
            base = {}
    for part in ("scope", "multipliers"):
        given[part] = {**base.get(part, {}), **given.get(part, {})}
    return wish(base | given)


def _unseen(run: Path | None, body: Campaign) -> tuple[str, ...]:
    """What of its scope nobody was seen with lately; a run that is not up cannot tell."""
    from headrace.previewing import previews_of
    from reward.preview.unseen import asks_something, not_held
    from schemas.errors import Unavailable

    if not asks_something(body.scope):
        return ()
    try:
        folder, settings = open_live_run(run)
    except Unavailable as error:
        return (not_held(error),)
    return previews_of(settings, settings.store or str(folder.store)).unseen(body)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, {}, [])}
