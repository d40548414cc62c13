"""`headrace replay`, `diff-topics`, `switch-topics`: what was, once more, and what of it is different today."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from headrace.columns import put, room
from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.commands.watching import watched

#: Keys of each sort that the file of `diff-topics` has.
KEPT = 1_000

FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        help="Event time, included: ISO 8601 (UTC without a zone) or ms since 1970. For a topic of events also an offset, "
        "the first in each partition.",
    ),
]
ToOption = Annotated[str, typer.Option("--to", help="Event time, not included; default: to the end.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)
    app.command(name="diff-topics")(diff_topics)
    app.command(name="switch-topics")(switch_topics)


def replay(
    path: Annotated[
        Path | None, typer.Argument(help="Event file: .jsonl, .jsonl.zst or .parquet", show_default=False)
    ] = None,
    topic: Annotated[str, typer.Option("--topic", help="Or: a topic, of events or derived from them.")] = "",
    start: FromOption = "",
    end: ToOption = "",
    into: Annotated[str, typer.Option("--into", help="Rebuild the derived topic under this name.")] = "",
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream", help="A rebuilt topic that stands in for an input; may be given again.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an earlier rebuild of that name first.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Replay a log file or an event topic's past into the event topics, or rebuild a derived topic under a new name.

    A file gets ticks of its own time. A rebuild runs today's code and settings over all that the inputs still keep, also when
    --from and --to want only a stretch of it: what happens later hangs on what was before.
    """
    from schemas.errors import InvalidRequest

    if (path is None) == (not topic):
        given = "both" if topic else "neither"
        raise InvalidRequest("replay", f"given {given}", "exactly one of PATH and --topic", "name one of them")
    if path is not None and (start or end):
        raise InvalidRequest("replay", f"given --from {start} --to {end}", "a whole file", "leave them out, or cut the file")
    if not into and (upstream or overwrite):
        raise InvalidRequest("replay", "without --into", "with it for --upstream, --overwrite", "say what to rebuild into")
    _, settings = open_live_run(run)
    if into:
        made = _rebuild(settings, topic, start, end, into, upstream or [], overwrite)
        compare = f"headrace diff-topics {topic} {into}" + (f" --run {shlex.quote(str(run))}" if run else "")
        put(console, [f"read {made['read']} records, wrote {made['written']} to {into}. Next: {compare}"])
        emit(made, json)
        return
    sent = _send(settings.connections, path, topic, start, end)
    console.print(
        f"sent {sum(sent.values())} records: " + ", ".join(f"{count} to {name}" for name, count in sorted(sent.items()))
    )
    emit(sent, json)


def _send(connections: Any, path: Path | None, topic: str, start: str, end: str) -> dict[str, int]:
    from streams.replaying.files import replay_file
    from streams.replaying.span import FIRST_TIME, span
    from streams.replaying.topics import replay_topic

    if path is not None:
        with watched(f"sending {path.name}") as tell:
            return replay_file(connections, path, on_progress=tell)
    offset = int(start) if start.isdecimal() and int(start) < FIRST_TIME else 0
    times = span("" if offset or start == "0" else start, end)
    with watched(f"sending {topic}") as tell:
        return replay_topic(connections, topic, offset, times, tell)


def _rebuild(
    settings: Any, topic: str, start: str, end: str, into: str, upstream: list[str], overwrite: bool
) -> dict[str, Any]:
    from headrace.rebuilding import run_rebuild
    from streams.replaying.span import span

    with watched(f"rebuilding {topic}") as tell:
        made = run_rebuild(settings, topic, into, span(start, end), upstream, overwrite, tell)
    result: dict[str, Any] = msgspec.to_builtins(made)
    return result


def diff_topics(
    a: Annotated[str, typer.Argument(help="A derived topic, or a rebuild of one.")],
    b: Annotated[str, typer.Argument(help="Another of the same kind.")],
    start: FromOption = "",
    end: ToOption = "",
    limit: Annotated[
        int, typer.Option("--limit", min=0, max=KEPT, help="Keys shown of each sort; the file of --json has up to 1,000.")
    ] = 5,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Compare two topics by what they say last of each view (example, stamp): exit status 0 when they say the same.

    Where one of them was rebuilt for a stretch of event time, only that stretch is compared. The first keys that differ are
    shown value by value; --json has the records too. Memory is about 250 bytes for each key of a partition and topic.
    """
    from headrace.differences import difference_lines
    from streams.replaying.diff import diff_topics as compare
    from streams.replaying.span import span

    _, settings = open_live_run(run, kafka_alone=True)
    with watched("comparing") as tell:
        found = compare(settings.connections, a, b, span(start, end), KEPT if json else limit, tell)
    put(console, difference_lines(found, limit, room(console)))
    emit({**msgspec.to_builtins(found), "equal": found.equal}, json)
    if not found.equal:
        raise typer.Exit(1)


def switch_topics(
    topic: Annotated[str, typer.Argument(help="The live topic: search.views.")],
    name: Annotated[str, typer.Argument(help="A finished rebuild of all of it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be corrected.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Correct the live views to the rebuilt ones, and let attribution go on from there. Stop its workers first.

    Readers of the topic keep their offsets: each view that differs gets one more revision, as for an order that came back.
    """
    from streams.replaying.switch import switch_views

    _, settings = open_live_run(run)
    with watched("joining anew") as tell:
        partitions = switch_views(settings.connections, settings.streams, topic, name, dry_run, tell)
    table = Table("partition", "corrected", "taken back", "introduced", "older than what is kept", title=f"Switch to {name}")
    for row in partitions:
        counts = (row.partition, row.corrected, row.taken_back, row.introduced, row.before_horizon)
        table.add_row(*(str(count) for count in counts))
    console.print(table)
    emit(partitions, json)
