"""What `headrace weights` and `headrace campaigns` share: who decides, over which desk, and how a decision is shown."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import typer
from rich.table import Table

from headrace.commands.common import console, emit, open_live_run, open_run
from headrace.terminal import coloured
from schemas.decisions import Acted, Actor, AuditEntry, Change, Decision, Overlap, Role, Standing

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from reward.desk.desk import Desk
    from schemas.connections import Connections

#: A token of the API: who acts is its name, with its role. Without it, the user of this machine, as an approver.
TOKEN_VARIABLE = "HEADRACE_TOKEN"

WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept for ever with the decision.")]
ExpectOption = Annotated[
    int | None, typer.Option("--expect", min=0, help="Refuse if the newest revision is another.", show_default=False)
]
ExpectVersionOption = Annotated[
    int | None, typer.Option("--expect", min=1, help="Refuse if the active version is another.", show_default=False)
]
OverrideOption = Annotated[
    bool, typer.Option("--override", help="Even if relevance becomes worthless; for approvers, kept in the audit.")
]


#: Longest wait for Kafka to take a decision (s): a broker that is started again is back by then.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class At:
    """The desk of a run, and who stands at it."""

    desk: Desk
    engine: Engine
    connections: Connections
    actor: Actor

    def publish(self) -> None:
        """Send what is saved into its topic.

        Raises:
            Unavailable: Kafka is away for longer than `PATIENCE_S`; it goes out with the next one.
        """
        from reward.desk.outbox import publish

        publish(self.engine, self.connections, PATIENCE_S)


def at(run: Path | None, *, live: bool = False) -> At:
    """The desk of a run; ``live``: what is decided is to be published, so the run must be up.

    Who stands there is known before anything is read: a token that is not good is never taken as none.

    Raises:
        UnknownToken: the token in HEADRACE_TOKEN is not good.
    """
    from reward.desk.desk import Desk
    from reward.desk.outside import catalogue_of
    from schemas.database import open_database
    from schemas.store import Store

    folder, settings = open_live_run(run, needs_kafka=False) if live else open_run(run)
    engine = open_database(settings.connections)
    store = Store(settings.store or str(folder.store))
    desk = Desk(engine, settings.reward.desk, catalogue_of(store))
    return At(desk, engine, settings.connections, _actor(engine))


def _actor(engine: Engine) -> Actor:
    """The holder of the token; without one the user of this machine, who may everything."""
    from reward.desk.tokens import Tokens

    if secret := os.environ.get(TOKEN_VARIABLE):
        return Tokens(engine).actor(secret.strip())
    return Actor(getpass.getuser(), Role.APPROVER)


def say(acted: Acted) -> None:
    """What a verb did, what changed, and whom it meets."""
    made = acted.decision
    book = f", version {acted.book.version} of the weights" if acted.book else ""
    override = ", with override" if made.override else ""
    console.print(f"{made.subject} revision {made.revision}: {made.state}{book}{override}", highlight=False)
    show_changes(acted.changes)
    show_overlaps(acted.overlaps)
    show_warnings((*acted.refusals, *acted.warnings))


def show_changes(changes: Iterable[Change]) -> None:
    """Field by field."""
    from reward.desk.told import cell

    rows = list(changes)
    if not rows:
        console.print("nothing differs")
        return
    table = columns("field", "old", "new")
    for change in rows:
        table.add_row(change.field, cell(change.old), cell(change.new))
    console.print(table)


def show_overlaps(overlaps: Sequence[Overlap]) -> None:
    """Who meets whom, and who wins."""
    if not overlaps:
        return
    table = columns("meets", "on items", "wins", title="Overlaps")
    for one in overlaps:
        won = ", ".join(f"{name}: {winner}" for name, winner in one.wins.items()) or "they set different things"
        table.add_row(f"{one.first} and {one.second}", f"{one.items}", won)
    console.print(table)


def show_warnings(warnings: Iterable[str]) -> None:
    """What to mind, a line each."""
    for warning in warnings:
        console.print(coloured(("!", "yellow"), f" {warning}"))


def show_standings(standings: Iterable[Standing], title: str) -> None:
    """One line for a subject."""
    from reward.desk.told import period, sets

    table = columns("id", "state", "period", "sets", "draft", title=title)
    for one in standings:
        body = (one.live or one.draft).body  # type: ignore[union-attr]  # one of the two is there
        waiting = f"revision {one.draft.revision} by {one.draft.who}" if one.draft else ""
        table.add_row(one.subject, str(one.state), period(body), sets(body), waiting)
    console.print(table)


def show_revisions(rows: Iterable[Decision], title: str) -> None:
    """The life of a subject."""
    from reward.desk.told import period, sets

    table = columns("rev.", "state", "period", "sets", "by", "why", title=title)
    for row in rows:
        by = (
            row.who
            + (f", approved by {row.approved_by}" if row.approved_by else "")
            + (", override" if row.override else "")
        )
        table.add_row(f"{row.revision}", str(row.state), period(row.body), sets(row.body), by, row.why)
    console.print(table)


def show_audit(entries: Iterable[AuditEntry]) -> None:
    """The newest first."""
    from reward.desk.periods import shown

    table = columns("when", "who", "did", "what changed", "why", title="Audit")
    for one in entries:
        did = f"{one.action} {one.subject}" + (" with override" if one.override else "")
        table.add_row(shown(one.at_ms), f"{one.who} ({one.role})", did, "; ".join(map(str, one.changes)), one.why)
    console.print(table)


def columns(*names: str, title: str | None = None) -> Table:
    """A table whose cells fold instead of being cut."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def act(
    here: At, verb: Literal["activate", "schedule", "end"], subject: str, why: str, expect: int | None, json: Path | None,
    **options: bool,
) -> None:  # fmt: skip
    """Do it, publish it, say it."""
    acted: Acted = getattr(here.desk, verb)(subject, here.actor, why, expect, **options)
    here.publish()
    say(acted)
    emit(acted, json)


def numbers(
    texts: Iterable[str], what: str = "weight", form: str = "NAME=NUMBER", example: str = "order=8"
) -> dict[str, float]:
    """Values by name; not a number (nan) is for the desk to refuse.

    Raises:
        InvalidRequest: not of the form, or a name twice.
    """
    from schemas.errors import InvalidRequest

    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise InvalidRequest(what, text, form, f"write for example `{example}`") from error
        if not name:
            raise InvalidRequest(what, text, form, f"write for example `{example}`")
        if name in found:
            raise InvalidRequest(what, text, f"given once, but {name} is {found[name]:g} before it", "leave one out")
        found[name] = number
    return found


def one_number(option: str, text: str) -> float:
    """A number as it was typed; not a number (nan) is for the desk to refuse.

    Raises:
        InvalidRequest: it is none.
    """
    from schemas.errors import InvalidRequest

    try:
        return float(text)
    except ValueError as error:
        remedy = f'write for example `{option} 8`, or `{option} ""` to take it out'
        raise InvalidRequest(option, text, "a number, or empty", remedy) from error


def plain(record: msgspec.Struct) -> dict[str, Any]:
    """A struct as the mapping that a file would hold."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found
