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
#: As it was typed: empty takes the number out again.
Number = str | None


def _some(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default=False)


def _number(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default=False, metavar="NUMBER")


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
    relevance: Annotated[Number, _number("--relevance", "Weight of the relevance tier, 0 to 100.")] = None,
    ctr: Annotated[Number, _number("--ctr", "Weight of the click rate, 0 to 100.")] = None,
    click: Annotated[Number, _number("--click", "Weight of a click, 0 to 100.")] = None,
    order: Annotated[Number, _number("--order", "Weight of an order, 0 to 100.")] = None,
    margin: Annotated[Number, _number("--margin", "Factor for items that are all margin, 0.5 to 2.")] = None,
    new_items: Annotated[Number, _number("--new-items", "Factor for new items, 0.5 to 2.")] = None,
    new_days: Annotated[Number, _number("--new-days", "Days for which an item is new; default 14.")] = None,
    brand_factor: Annotated[Many, _some("--brand-factor", "BRAND=FACTOR, 0.5 to 2; several times.")] = None,
    why: WhyOption = "drafted from the command line",
    expect: ExpectOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Write a draft, or change it; nothing acts before it is activated or scheduled.

    What is not given stays as it was in the draft, or in what acts. What is given empty is taken out: --click "" leaves clicks to
    what the campaign lies over, --category "" lifts that limit, --to "" the end. Options that can be given several times
    replace what was there.

    Example: headrace campaigns draft black-friday --category shoes --from 2026-11-27T00:00 --to 2026-11-30T00:00
    --zone Europe/Berlin --order 8 --brand-factor Kelda=1.2 --why "sell shoes"
    """
    here = at(run)
    names = {"categories": category, "brands": brand, "queries": query, "segments": segment, "markets": market}
    factors = {"margin": margin, "new_items": new_items, "new_days": new_days}
    weights = {"relevance": relevance, "ctr": ctr, "click": click, "order": order}
    given = _given({
        "name": name, "owner": owner, "from": starts, "to": ends, "zone": zone, "priority": priority,
        "accept_clock_change": accept_clock_change or None, **_numbers(weights),
        "scope": _given({part: _words(typed) for part, typed in names.items()}),
        "multipliers": _given(_numbers(factors) | {"brands": _brands(brand_factor)}),
    })  # fmt: skip
    acted = here.desk.draft(campaign, _wish(here, campaign, file, given), here.actor, why, expect)
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
        inner, options = base.get(part, {}), given.pop(part)
        if isinstance(inner, dict):  # else the wish refuses it
            base[part] = _over(inner, options)
    return wish(_over(base, given))


def _over(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Options over fields; what is given empty is taken out."""
    kept = {name: value for name, value in base.items() if name not in given}
    return kept | {name: value for name, value in given.items() if value not in ("", [], {})}


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
    return {name: value for name, value in options.items() if value is not None}


def _words(typed: Many) -> Many:
    return [word for word in typed if word] if typed else None


def _numbers(typed: dict[str, Number]) -> dict[str, float | str | None]:
    """Empty stays empty: it is taken out."""
    return {name: deciding.one_number(f"--{name.replace('_', '-')}", text) if text else text for name, text in typed.items()}


def _brands(typed: Many) -> dict[str, float] | None:
    words = _words(typed)
    return None if words is None else deciding.numbers(words, "--brand-factor", "BRAND=FACTOR", "Kelda=1.2")
