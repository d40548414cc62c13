"""`headrace replay`: send a recorded log, or a topic's past, through the stream once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    path: Annotated[
        Path | None, typer.Argument(help="Event file: .jsonl, .jsonl.zst or .parquet", show_default=False)
    ] = None,
    topic: Annotated[str, typer.Option("--topic", help="Or: a topic to read from.")] = "",
    start: Annotated[int, typer.Option("--from", min=0, help="First offset of the topic, in each partition.")] = 0,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Replay a log file, or a topic from an offset, into the event topics, with ticks of its own time."""
    from schemas.errors import InvalidRequest
    from streams.replay import replay_file, replay_topic

    if (path is None) == (not topic):
        raise InvalidRequest(
            "replay", f"given {'both' if topic else 'neither'}", "exactly one of PATH and --topic", "name one of them"
        )
    _, settings = open_live_run(run)
    sent = replay_file(settings.connections, path) if path else replay_topic(settings.connections, topic, start)
    console.print(
        f"sent {sum(sent.values())} records: " + ", ".join(f"{count} to {name}" for name, count in sorted(sent.items()))
    )
    emit(sent, json)
