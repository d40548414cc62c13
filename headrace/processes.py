"""The long-running processes of a run, each in a function: what `headrace worker`, `learn`, `serve` and `console` do."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from headrace.folder import RunFolder
from headrace.settings import Settings
from headrace.tracing import configure_tracing
from schemas.admission import admit_redis
from schemas.artefacts import Artefacts
from schemas.errors import Unavailable
from schemas.store import Store


def run_worker(names: Sequence[str], folder: RunFolder, settings: Settings, instance: str | None = None) -> None:
    """Run stream workers in this process; exit status 1 when it failed, so that whoever supervises it starts it again."""
    from streams import worker

    worker.check_names(names)
    configure_tracing(settings.tracing, f"headrace-{'-'.join(names)}")
    store = Store(settings.store)
    artefacts = Artefacts() if {"attribution", "integrity"}.issuperset(names) else _artefacts(store)
    status = worker.run_worker(names, settings.connections, artefacts, settings.streams, settings.reward, store, instance)
    sys.exit(status)


def run_learner(folder: RunFolder, settings: Settings) -> None:
    """Run the learner, or a rank of it, until SIGTERM or Ctrl-C."""
    from headrace.ranks import end_with_rank_0

    end_with_rank_0()
    from trainers.allocator import keep_freed_memory
    from trainers.running import run  # takes seconds, in which rank 0 may end

    keep_freed_memory()
    store = Store(settings.store)
    run(settings.connections, store, _artefacts(store), settings.trainers, until_stopped(), settings.reward)


def run_server(folder: RunFolder, settings: Settings) -> None:
    """Run the search server until SIGTERM or Ctrl-C."""
    from serving.app import run

    configure_tracing(settings.tracing, "headrace-server")
    store = Store(settings.store)
    admit_redis(settings.connections)
    run(settings.connections, store, _artefacts(store), settings.serving, settings.reward)


def run_console(folder: RunFolder, settings: Settings) -> None:
    """Run the web console until SIGTERM or Ctrl-C."""
    from console.app import run
    from headrace.previewing import previews_of
    from reward.desk.outside import catalogue_of

    facts, previews = catalogue_of(Store(settings.store)), previews_of(settings, settings.store)
    share = settings.serving.control_share
    run(settings.connections, settings.console, settings.reward.desk, facts, previews, share)


def run_clock(every_s: float, folder: RunFolder, settings: Settings) -> None:
    """Send ticks until SIGTERM or Ctrl-C."""
    from streams.ticks import run_ticks

    run_ticks(settings.connections, until_stopped(), every_s)


def until_stopped(again: Event | None = None) -> Event:
    """An event that SIGTERM or Ctrl-C sets; one that comes when it is set, sets ``again``. Call it in the main thread."""
    stop = Event()

    def end(*_: object) -> None:
        if stop.is_set() and again is not None:
            again.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop


class Stopped(BaseException):
    """The process was asked to end in the midst of something (`ends_at_once`). No error: nothing may take it for one."""


@contextmanager
def ends_at_once(stop: Event, again: Event) -> Iterator[None]:
    """Inside, SIGTERM or Ctrl-C sets ``stop`` and raises `Stopped` out of whatever waits; a second one leaves the cleaning up alone
    and sets ``again``. Afterwards they do what they did before. Enter it in the main thread."""

    def end(*_: object) -> None:
        if not stop.is_set():
            stop.set()
            raise Stopped
        again.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _artefacts(store: Store) -> Artefacts:
    try:
        return Artefacts.load(store)
    except Unavailable as error:
        raise Unavailable("the run's artefacts", str(error), "make them with `headrace prepare`") from error
