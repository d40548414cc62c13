"""Everything that runs beside the caller: services, stream workers, learner, server; under one supervisor, in one folder."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.folder import RunFolder
from headrace.services import start_services
from headrace.services.child import Child
from headrace.services.lock import hold
from headrace.services.ports import claim, free_port
from headrace.settings import FILE_VARIABLE, Settings
from headrace.supervisor import Patience, Supervisor
from headrace.topics_admin import create_topics
from schemas.database import open_database

#: Environment variable of a worker's Prometheus port.
METRICS_PORT = "HEADRACE_STREAMS__RUNTIME__METRICS_PORT"
#: What a process of ours has between SIGTERM and SIGKILL (s); docker-compose.yml gives as much. A worker's clean stop writes its
#: states in one transaction, behind another that may be under way: `RuntimeSettings.longest_stop_s`, 136 s as shipped, and the rest is
#: for dumping and packing the states. The learner ends its step and writes a checkpoint; its ranks have 30 s of that.
STOP_GRACE_S = 180.0
#: Torch is loaded in these; glibc otherwise keeps an arena per thread, tens of MB each.
LEAN = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass
class Stack:
    """A run's processes. ``settings`` name the addresses of what is up."""

    folder: RunFolder
    settings: Settings
    supervisor: Supervisor

    @property
    def server(self) -> str:
        """Base URL of the search server."""
        return f"http://127.0.0.1:{self.settings.serving.port}"

    @property
    def console(self) -> str:
        """Base URL of the console."""
        return f"http://127.0.0.1:{self.settings.console.port}"

    def start_workers(self) -> None:
        """Start the stream workers, one of each, under names that make a restarted one take its partitions back at once.

        The metrics' port, when it is set, is the first process's; the others count on from it.
        """
        port = self.settings.streams.runtime.metrics_port
        for n, names in enumerate(worker_processes(self.settings)):
            own = {METRICS_PORT: str(port + n)} if port else {}  # one machine: each needs a port of its own
            first, command = names[0], ("worker", *names, "--instance", names[0])
            self.supervisor.start(self._child(f"worker-{first}", *command, env=own), wait=False)

    def start_learner(self, ranks: int = 1) -> None:
        """Start the learner, in so many processes."""
        several = ("--ranks", str(ranks)) if ranks > 1 else ()
        self.supervisor.start(self._child("learner", "learn", *several), wait=False)

    def claim_ports(self) -> None:
        """Raises Conflict: the port of the search server or of the console is taken."""
        self._claim_server()
        self._claim_console()

    def start_server(self, wait: bool = True) -> None:
        """Start the search server; with ``wait`` return when it answers. Raises Conflict: its port is taken."""
        self._claim_server()
        self.supervisor.start(self._child("server", "serve", ready=f"{self.server}/readyz"), wait=wait)

    def start_console(self) -> None:
        """Start the console. Raises Conflict: its port is taken."""
        self._claim_console()
        self.supervisor.start(self._child("console", "console", ready=f"{self.console}/healthz"))

    def _claim_server(self) -> None:
        claim("search server", self.settings.serving.port, "serving.port")

    def _claim_console(self) -> None:
        claim("console", self.settings.console.port, "console.port")

    def _child(self, name: str, *command: str, ready: str = "", env: Mapping[str, str] | None = None) -> Child:
        return Child(
            name,
            (sys.executable, "-m", "headrace.cli", *command, "--run", str(self.folder.root)),
            env={FILE_VARIABLE: str(self.folder.settings_file), **LEAN, **self.settings.secret_environment(), **(env or {})},
            ready=(lambda: answers(ready)) if ready else None,
            ready_timeout_s=120.0,
            grace_s=max(STOP_GRACE_S, self.settings.streams.runtime.longest_stop_s),
            beside=True,
        )


def worker_processes(settings: Settings) -> tuple[tuple[str, ...], ...]:
    """The workers of each process, in the order of the data's way. A process costs 100 MB before it does anything, and
    integrity has little to do."""
    others = ("posteriors",), ("rewarding",), ("keywords",)
    if settings.streams.integrity.apart:
        return ("attribution",), *others, ("integrity",)
    return ("attribution", "integrity"), *others


@contextmanager
def open_stack(folder: RunFolder, settings: Settings, patience: Patience | None = None) -> Iterator[Stack]:
    """Hold the folder, start the services, make the topics and tables, and keep the effective settings; stop all at the end, with
    ``patience``. Our processes end together, as each stands in the log where it was; Redis and Kafka, which they need for that, after them.

    Raises:
        Conflict: another process holds the folder.
        ServiceFailed, Unavailable: a service does not come up.
    """
    folder.create()
    with hold(folder.root), Supervisor(folder.root, patience=patience) as supervisor:
        supervisor.watch()
        settings = settings.without_embedded()
        connections = start_services(folder.root, settings.connections, supervisor, settings.services)
        create_topics(connections)
        open_database(connections).dispose()
        own = tuple(name for name in ("kafka", "redis") if not getattr(settings, name))
        effective = _with_ports(settings.model_copy(update=dict(connections) | {"embedded": own}))
        folder.save(effective)
        yield Stack(folder, effective, supervisor)


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _with_ports(settings: Settings) -> Settings:
    """Port 0 means any free one; the run's processes have to agree on which."""
    serving, console = settings.serving, settings.console
    if serving.port == 0:
        serving = serving.model_copy(update={"port": free_port()})
    if console.port == 0:
        console = console.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"serving": serving, "console": console})
