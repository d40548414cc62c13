"""`headrace up`: the whole system on this machine until Ctrl-C, with the wall clock as its clock."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Thread

from headrace.errand import run_errand
from headrace.folder import RunFolder
from headrace.logs import configure_logs
from headrace.processes import until_stopped
from headrace.settings import Settings, load_settings
from headrace.stack import open_stack
from headrace.story import Story
from schemas.artefacts import PATH
from schemas.store import Store

#: Seconds between two looks at the children.
LOOK_S = 0.5


def run_up(run: Path | None, data: str | None, seed: int | None, items: int | None) -> None:
    """Start everything; see `headrace up --help`.

    Raises:
        Conflict: another process holds the run folder; the message names it.
        ServiceFailed: a process ended again and again.
    """
    story, stop = Story(), until_stopped()
    folder = RunFolder(run.resolve()) if run else RunFolder.new()
    settings = folder.settings() if folder.settings_file.is_file() else _new(data, seed, items)
    folder.create()
    configure_logs(folder.logs / "headrace.log")
    story.say(f"[bold]Headrace[/] up; run folder {folder.root}")
    with open_stack(folder, settings) as stack:
        if not Store(stack.settings.store).exists(PATH):
            with story.errand() as tell:
                arguments = ("prepare", "--run", str(folder.root))
                prepared = run_errand(
                    arguments, folder.logs / "prepare.log", lambda s, share, note: tell(s.replace("_", " "), share, note)
                )
            for note in prepared["notes"]:
                story.say(note)
        with story.stage("start", "Workers, learner, search server and console"):
            stack.start_workers()
            stack.start_learner()
            stack.start_server()
            stack.start_console()
        clock = Thread(target=_ticks, args=(stack.settings, stop), name="ticks", daemon=True)
        clock.start()
        story.say(f"Kafka {stack.settings.kafka}   Search {stack.server}/search?q=...&user=me   Console {stack.console}")
        story.say(f"[dim]headrace status --run {folder.root}; Ctrl-C stops everything[/]")
        while not stop.wait(LOOK_S):
            if failed := stack.supervisor.failures():
                raise failed[0]
        story.say("stopping")
        clock.join(timeout=5)


def _new(data: str | None, seed: int | None, items: int | None) -> Settings:
    typed = {name: value for name, value in (("data", data), ("seed", seed)) if value is not None}
    base = load_settings(**typed, now_ms=int(time.time() * 1000))
    if items is None:
        return base
    return base.model_copy(update={"shop": base.shop.model_copy(update={"items": items})})


def _ticks(settings: Settings, stop: Event) -> None:
    from streams.ticks import run_ticks

    run_ticks(settings.connections, stop)
