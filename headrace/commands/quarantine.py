"""`headrace quarantine`: records that could not be used, by filter or by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.columns import Column, aligned, put, room
from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.commands.watching import watched

if TYPE_CHECKING:
    from schemas.connections import Connections
    from streams.quarantine import Line, Wanted

app = typer.Typer(help="Look at records that could not be used, and send them again.", no_args_is_help=True)

ReasonOption = Annotated[str, typer.Option("--reason", help="Only of this reason, for example `late`.")]
TopicOption = Annotated[str, typer.Option("--topic", help="Only from this topic.")]
AgentOption = Annotated[str, typer.Option("--agent", help="Only refused by this agent.")]
SinceOption = Annotated[
    str,
    typer.Option("--since", help="Broker's time of the record, included: ISO 8601 (UTC without a zone) or ms since 1970."),
]
UntilOption = Annotated[str, typer.Option("--until", help="The same, not included.")]


@app.command(name="list")
def list_records(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Newest so many.")] = 50,
    reason: ReasonOption = "",
    topic: TopicOption = "",
    agent: AgentOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """List quarantined records with their reasons, the newest first."""
    from streams.quarantine import listing, utc

    connections = open_live_run(run, kafka_alone=True)[1].connections
    rows = listing(connections, limit, _wanted(reason, topic, agent, since, until))
    columns = (
        Column("id"), Column("time (UTC)", spare=2), Column("reason"), Column("agent", spare=3), Column("from", spare=1),
        Column("sent again", spare=4), Column("detail"),
    )  # fmt: skip
    cells = [
        (
            row.id, utc(row.record.ts), row.record.reason, row.record.agent,
            f"{row.record.topic}/{row.record.partition}@{row.record.offset}", "yes" if row.replayed_ms else "no",
            row.record.detail,
        )
        for row in rows
    ]  # fmt: skip
    put(console, aligned(columns, cells, room(console)))
    emit(rows, json)


@app.command()
def counts(
    reason: ReasonOption = "",
    topic: TopicOption = "",
    agent: AgentOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Count quarantined records by reason, agent and topic."""
    connections = open_live_run(run, kafka_alone=True)[1].connections
    emit(_put_counts(_scanned(connections, _wanted(reason, topic, agent, since, until))), json)


@app.command()
def show(record: Annotated[str, typer.Argument(help="id from `list`")], run: RunOption = None) -> None:
    """Show one quarantined record whole."""
    from streams.quarantine import show

    put(console, [show(open_live_run(run, kafka_alone=True)[1].connections, record)])


@app.command()
def replay(
    records: Annotated[list[str] | None, typer.Argument(help="ids from `list`; or filters", show_default=False)] = None,
    reason: ReasonOption = "",
    topic: TopicOption = "",
    agent: AgentOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    again: Annotated[bool, typer.Option("--again", help="Also what was sent again before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Send records' bytes to the topics and partitions they came from once more: by id, or all that the filters take.

    What was sent again before is left out, and what is longer than quarantine keeps. With filters you are asked first.
    """
    from schemas.errors import InvalidRequest
    from streams.quarantine import Wanted, by_id, plan
    from streams.quarantine import replay as send

    wanted = _wanted(reason, topic, agent, since, until)
    if bool(records) == (wanted != Wanted()):
        remedy = "name records by id, or give a filter such as --reason or --since"
        raise InvalidRequest("replay", "both" if records else "neither", "exactly one of ids and filters", remedy)
    connections = open_live_run(run, kafka_alone=True)[1].connections
    lines = _scanned(connections, wanted)
    if records:
        lines = [by_id(lines, name) for name in dict.fromkeys(records)]
    made = plan(lines, again)
    _put_counts(made.send)
    for left, why in (
        (made.before, "sent again before; --again sends them too"),
        (made.cut, "longer than quarantine keeps"),
    ):
        if left:
            names = ", ".join(line.id for line in left[:3]) + ", ..." * (len(left) > 3)
            put(console, [f"left out: {len(left)} {why} ({names})"])
    sent = 0
    if made.send and not dry_run:
        if not (records or yes):
            typer.confirm(f"Send {len(made.send)} records again?", abort=True)
        with watched("sending") as tell:
            sent = send(connections, made.send, tell)
    put(
        console,
        [f"sent {sent} of {len(lines)} records" if not dry_run else f"would send {len(made.send)} of {len(lines)} records"],
    )
    emit(
        {"matched": len(lines), "to_send": len(made.send), "sent": sent, "before": len(made.before), "cut": len(made.cut)},
        json,
    )
    if records and len(made.send) < len(lines):
        raise typer.Exit(1)  # one that was named was not sent


def _wanted(reason: str, topic: str, agent: str, since: str, until: str) -> Wanted:
    from streams.quarantine import Wanted
    from streams.replaying.span import span

    return Wanted(reason, topic, agent, span(since, until))


def _scanned(connections: Connections, wanted: Wanted) -> list[Line]:
    from streams.quarantine import scan

    with watched("reading") as tell:
        return scan(connections, wanted, tell)


def _put_counts(lines: list[Line]) -> list[dict[str, Any]]:
    from streams.quarantine import counts, utc

    columns = (
        Column("records", right=True), Column("sent again", right=True), Column("reason"), Column("agent"), Column("topic"),
        Column("newest (UTC)", spare=1),
    )  # fmt: skip
    rows = counts(lines)
    cells = [(f"{n:,}", f"{again:,}", one.reason, one.agent, one.topic, utc(one.ts)) for one, n, again in rows]
    put(console, aligned(columns, cells, room(console)))
    return [
        {
            "reason": one.reason,
            "agent": one.agent,
            "topic": one.topic,
            "records": n,
            "sent_again": again,
            "newest_ms": one.ts,
        }
        for one, n, again in rows
    ]
