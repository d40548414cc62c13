"""`headrace up`: the whole system on this machine until Ctrl-C, with the wall clock as its clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

from headrace.errand import run_errand
from headrace.folder import RunFolder
from headrace.logs import configure_logs
from headrace.processes import Stopped, ends_at_once, until_stopped
from headrace.settings import Settings, load_settings, with_open_console
from headrace.stack import Stack, open_stack
from headrace.story import Story
from headrace.supervisor import Patience
from headrace.terminal import coloured
from headrace.worlds import open_run_world
from schemas.artefacts import PATH
from schemas.store import Store

#: Seconds between two looks at the children.
LOOK_S = 0.5


def run_up(run: Path | None, data: str | None, seed: int | None, items: int | None, ranks: int = 1) -> None:
    """Start everything; see `headrace up --help`.

    Raises:
        Conflict: another process holds the run folder; the message names it.
        InvalidSetting, InvalidData: the data of a run that is to be prepared are not as documented.
        ServiceFailed: a process ended again and again.
    """
    story = Story()
    patience = patience_of(story)
    stop = until_stopped(patience.over)
    with ExitStack() as running:
        try:
            with ends_at_once(stop, patience.over):
                stack = _start(story, running, patience, run, data, seed, items, ranks)
            stay_up(story, stack, stop)
        except Stopped:
            story.say("stopping")
        finally:
            stop.set()  # it ends, for whatever reason: a Ctrl-C from here on is the second


def patience_of(story: Story) -> Patience:
    """Tells in ``story`` what an end waits for."""

    def tell(names: Sequence[str]) -> None:
        said = f"waiting for {', '.join(names)} to write down what is held"
        with suppress(SystemExit, OSError):  # `headrace up | tee log`: Ctrl-C ends the reader too, and the end has to go on
            story.say(coloured(f"{said}; Ctrl-C kills at once: ", ("the next start does again what was not written", "dim")))

    return Patience(tell=tell)


def _start(
    story: Story, running: ExitStack, patience: Patience, run: Path | None, data: str | None, seed: int | None,
    items: int | None, ranks: int,
) -> Stack:  # fmt: skip
    """Everything up, a new run prepared; ``running`` ends it."""
    folder = RunFolder(run.resolve()) if run else RunFolder.new()
    settings = folder.settings() if folder.settings_file.is_file() else _new(data, seed, items)
    if not Store(settings.store or str(folder.store)).exists(PATH):
        open_run_world(settings)  # the preparation opens it in its own process; what is wrong is told before Kafka starts
    folder.create()
    configure_logs(folder.logs / "headrace.log")
    story.say(coloured(("Headrace", "bold"), f" up; run folder {folder.root}"))
    stack = running.enter_context(open_stack(folder, settings, patience))
    stack.claim_ports()  # told before minutes of preparation, not after
    if not Store(stack.settings.store).exists(PATH):
        with story.errand() as tell:
            prepared = run_errand(
                ("prepare", "--run", str(folder.root)),
                folder.logs / "prepare.log",
                lambda s, share, note: tell(s.replace("_", " "), share, note),
                stack.settings.secret_environment(),
            )
        for note in prepared["notes"]:
            story.say(note)
    with story.stage("start", "Workers, learner, search server and console"):
        stack.start_workers()
        stack.start_learner(ranks)
        stack.start_server()
        stack.start_console()
    story.say(f"Kafka {stack.settings.kafka}")
    return stack


def stay_up(story: Story, stack: Stack, stop: Event) -> None:
    """Tell what can be done, and let the wall's clock close the windows until ``stop``.

    Raises:
        ServiceFailed: a process ended again and again.
        Refused: the broker does not let in who sends the clock; whatever else ends the clock is raised, too.
    """
    rules = stack.settings.streams.attribution
    minutes = (rules.click_window_s + rules.lateness_s) / 60
    story.say(f"Search  {stack.server}/search?q=...&user=me   Console  {stack.console}")
    click = f"Click   curl -X POST '{stack.server}/click?user=me&item=...&request_id=...'   "
    story.say(coloured(click, (f"learned from {minutes:.3g} minutes after its search", "dim")))
    story.say(coloured((f"headrace status --run {stack.folder.root}; Ctrl-C stops everything", "dim")))
    ended: list[BaseException] = []
    clock = Thread(target=_ticks, args=(stack.settings, stop, ended), name="ticks", daemon=True)
    clock.start()
    while not stop.wait(LOOK_S):
        if failed := [*stack.supervisor.failures(), *ended]:
            raise failed[0]
    story.say("stopping")
    clock.join(timeout=5)


def _new(data: str | None, seed: int | None, items: int | None) -> Settings:
    typed = {name: value for name, value in (("data", data), ("seed", seed)) if value is not None}
    base = with_open_console(load_settings(**typed, now_ms=int(time.time() * 1000)))
    if items is None:
        return base
    return base.model_copy(update={"shop": base.shop.model_copy(update={"items": items})})


def _ticks(settings: Settings, stop: Event, ended: list[BaseException]) -> None:
    """What ends the clock comes into ``ended``: a thread's own end tells nobody, and without ticks no view closes."""
    from streams.ticks import run_ticks

    try:
        run_ticks(settings.connections, stop)
    except BaseException as error:  # noqa: BLE001 -- raised by who waits for ``stop``
        ended.append(error)
