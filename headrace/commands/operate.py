"""Commands for whoever keeps it running: topics, doctor, status, forget."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Annotated

import typer
from rich.table import Table

from headrace.columns import put, room
from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.terminal import coloured

#: Pause between two looks of `status --watch` (s).
WATCH_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(topics)
    app.command()(doctor)
    app.command()(status)
    app.command()(forget)


def topics(
    create: Annotated[bool, typer.Option("--create", help="Create what is missing and correct settings.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """List the topics: key, partitions, cleanup, retention, and whether the broker agrees."""
    from headrace import topics_admin
    from schemas.topics import TOPICS

    _, settings = open_live_run(run, kafka_alone=True)
    if create:
        topics_admin.create_topics(settings.connections)
    differences = topics_admin.differences(settings.connections)
    table = Table("topic", "key", "partitions", "cleanup", "retention", "broker", title="Topics")
    for t in TOPICS:
        keep = "for ever" if t.retention_s < 0 else f"{t.retention_s / 86_400:g} days"
        said = "; ".join(differences.get(t.name, ())) or "agrees"
        table.add_row(t.name, t.key, str(t.partitions or settings.partitions), t.cleanup, keep, said)
    console.print(table)
    emit({t.name: list(differences.get(t.name, ())) for t in TOPICS}, json)


def doctor(run: RunOption = None, json: JsonOption = None) -> None:
    """Check versions, services, topic settings, disk and memory, and say what to do."""
    from headrace.doctor import examine
    from headrace.folder import RunFolder
    from headrace.settings import load_settings
    from schemas.errors import Unavailable

    try:
        settings = open_live_run(run, needs_kafka=False)[1]
    except Unavailable:
        if run is not None:
            raise
        settings = load_settings()  # nothing was started yet: check what a first start needs
    checks = examine(settings.connections, RunFolder.new().root)
    table = Table("check", "", "found", "what to do", title="Doctor")
    for check in checks:
        table.add_row(
            check.name,
            coloured(("ok", "green") if check.ok else ("no", "red")),
            check.detail,
            "" if check.ok else check.remedy,
        )
    console.print(table)
    emit(checks, json)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Per agent and partition: lag in records and in seconds of event time, watermark, state size, last commit.

    The keyword worker and the learner are listed too, by what they have acknowledged and journalled. A narrow terminal gets
    fewer columns; a pipe and --json get all.
    """
    from headrace.status import standing, status_lines

    _, settings = open_live_run(run, kafka_alone=True)

    def look() -> list[str]:
        rows = standing(settings.connections)
        emit(rows, json)
        return status_lines(rows, room(console))

    if watch:
        with suppress(KeyboardInterrupt):
            _watch(look)
    else:
        put(console, look())


def _watch(look: Callable[[], list[str]]) -> None:
    """On a terminal in place, elsewhere one block below the other."""
    import time

    from rich.live import Live
    from rich.text import Text

    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            lines = look()
            if live is not None:
                live.update(Text("\n".join(lines)), refresh=True)
            else:
                put(console, [*lines, ""])
            time.sleep(WATCH_S)


def forget(
    agent: Annotated[str, typer.Argument(help="Its name, as `status` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Forget a retired agent: what it has committed, and its lines in `status`. Stop its workers first.

    Should it be started again, it begins at the start of its inputs and says everything once more.
    """
    from streams.accounting import forget

    _, settings = open_live_run(run, kafka_alone=True)
    if not yes:
        typer.confirm(f"Forget all that {agent} has committed?", abort=True)
    forgotten = forget(settings.connections, agent)
    put(console, [f"forgot {forgotten} partitions of {agent}"])
    emit({"agent": agent, "partitions": forgotten}, json)
