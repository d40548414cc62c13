"""`headrace weights`: the default weights of the reward, and the versions of everything that was decided."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands import deciding
from headrace.commands.common import JsonOption, RunOption, console, emit
from headrace.commands.deciding import ExpectOption, ExpectVersionOption, OverrideOption, WhyOption, at
from schemas.decisions import DEFAULTS, INTEGRITY, State
from schemas.weights import RewardWeights

app = typer.Typer(help="Show and change the reward weights; a change acts on the next search and the next gradient step.")

Changes = Annotated[
    list[str], typer.Argument(help="relevance=, ctr=, click=, order=, each 0 to 100", metavar="NAME=VALUE...")
]
FromOption = Annotated[str, typer.Option("--from", help="When it starts, ISO 8601; empty: at once.")]
ToOption = Annotated[str, typer.Option("--to", help="When it ends, ISO 8601; empty: never.")]
ZoneOption = Annotated[str, typer.Option("--zone", help="IANA time zone of times that have no UTC offset.")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-clock-change", help="Even if the clocks change inside a period in local time.")
]
StateOption = Annotated[list[State] | None, typer.Option("--state", help="Only these; several times.", show_default=False)]


@app.command()
def show(run: RunOption = None, json: JsonOption = None) -> None:
    """Show the active weights and the versions before them."""
    desk = at(run).desk
    history = desk.books()
    table = deciding.columns(
        "version", "relevance", "ctr", "click", "order", "campaigns", "by", "why", title="Reward weights"
    )
    for w in history:
        weights = (f"{w.relevance:g}", f"{w.ctr:g}", f"{w.click:g}", f"{w.order:g}")
        table.add_row(str(w.version), *weights, ", ".join(c.id for c in w.campaigns), w.author, w.reason)
    console.print(table)
    overlaps = desk.overlaps()
    deciding.show_overlaps(overlaps)
    emit({"active": history[-1], "history": history, "overlaps": overlaps}, json)


@app.command(name="list")
def list_revisions(state: StateOption = None, run: RunOption = None, json: JsonOption = None) -> None:
    """List what was decided about the defaults: drafts, and what acted."""
    desk = at(run).desk
    decided = any(one.subject == DEFAULTS for one in desk.standings())
    rows = [r for r in desk.revisions(DEFAULTS) if not state or r.state in state] if decided else []
    deciding.show_revisions(rows, "Decisions about the defaults")
    emit(rows, json)


@app.command(name="set")
def set_weights(
    changes: Changes,
    why: WhyOption = "set from the command line",
    expect: ExpectVersionOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Draft and activate other weights in one step, and publish them.

    Example: headrace weights set order=8 click=5 --why "spring sale" --expect 1
    """
    here = at(run, live=True)
    weights = here.desk.set(_parse(changes), here.actor, why, expect, override)
    here.publish()
    _say(weights)
    emit(weights, json)


@app.command()
def draft(
    changes: Changes,
    why: WhyOption = "drafted from the command line",
    starts: FromOption = "",
    ends: ToOption = "",
    zone: ZoneOption = "UTC",
    accept_clock_change: AcceptOption = False,
    expect: ExpectOption = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Write a draft of other weights; nothing acts before it is activated or scheduled.

    Example: headrace weights draft order=8 --from 2027-03-01T00:00 --zone Europe/Berlin --why "spring"
    """
    from reward.desk.wishes import wish

    here = at(run)
    fields = _parse(changes) | {"from": starts, "to": ends, "zone": zone, "accept_clock_change": accept_clock_change}
    acted = here.desk.draft(DEFAULTS, wish(fields), here.actor, why, expect)
    deciding.say(acted)
    emit(acted, json)


@app.command()
def activate(
    why: WhyOption = "activated from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Bring the draft of the weights into force now, and publish it."""
    deciding.act(at(run, live=True), "activate", DEFAULTS, why, expect, json, override=override)


@app.command()
def schedule(
    why: WhyOption = "scheduled from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Let the draft of the weights start when it says, and publish it."""
    deciding.act(at(run, live=True), "schedule", DEFAULTS, why, expect, json, override=override)


@app.command()
def end(
    why: WhyOption = "ended from the command line",
    expect: ExpectOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """End weights that have a period: what they lie over holds again."""
    deciding.act(at(run, live=True), "end", DEFAULTS, why, expect, json, override=override)


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(help="The version that comes back, with its campaigns.")],
    why: WhyOption = "rolled back",
    expect: ExpectVersionOption = None,
    override: OverrideOption = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Bring an earlier version back, weights and campaigns, as a new version.

    Example: headrace weights rollback 3 --why "orders fell"
    """
    from reward.desk.undone import undone

    here = at(run, live=True)
    weights = here.desk.rollback(version, here.actor, why, expect, override)
    here.publish()
    assert weights.before is not None  # what it undid
    console.print(str(undone(weights.before, weights, version)))
    _say(weights)
    emit(weights, json)


@app.command()
def diff(
    old: Annotated[int | None, typer.Argument(help="A version.", show_default=False)] = None,
    new: Annotated[int | None, typer.Argument(help="Another; default: the active one.", show_default=False)] = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show what differs between two versions, field by field; without versions, between the draft and what acts."""
    desk = at(run).desk
    changes = desk.diff(DEFAULTS) if old is None else desk.diff_books(old, desk.book(new).version)
    deciding.show_changes(changes)
    emit(changes, json)


@app.command()
def audit(
    who: Annotated[str | None, typer.Option("--who", help="Only what this person did.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many.")] = 50,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show who decided what about the weights, when and why, and who let a broken window of the log pass."""
    entries = at(run).desk.audit((DEFAULTS, INTEGRITY), who, limit=limit)
    deciding.show_audit(entries)
    emit(entries, json)


def _say(weights: RewardWeights) -> None:
    from reward.desk.oddities import odd_defaults

    campaigns = f", campaigns {', '.join(c.id for c in weights.campaigns)}" if weights.campaigns else ""
    console.print(
        f"version {weights.version}: relevance {weights.relevance:g}, ctr {weights.ctr:g}, "
        f"click {weights.click:g}, order {weights.order:g}{campaigns}"
    )
    deciding.show_warnings(odd_defaults(weights))


def _parse(changes: list[str]) -> dict[str, float]:
    return deciding.numbers(changes)
