"""What the commands share: the run they work on, and how a result is printed and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.terminal import terminal

if TYPE_CHECKING:
    from headrace.folder import RunFolder
    from headrace.settings import Settings

console = terminal()

RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run folder; default: the newest below runs/.", show_default=False)
]


def _writable(file: Path | None) -> Path | None:
    """What could not be written when the work is done is refused before it begins."""
    if file is None:
        return None
    import os

    from schemas.errors import InvalidRequest

    # A folder that is missing is made: the nearest that is there counts.
    there = next(path for path in (file, *file.absolute().parents) if os.access(path, os.F_OK))
    if there.is_dir() == (there == file) or not os.access(there, os.W_OK):
        raise InvalidRequest("--json", str(file), "a file that can be written", "name another")
    return file


JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the result to this file.", callback=_writable, show_default=False),
]


def open_run(run: Path | None, *, kafka_alone: bool = False) -> tuple[RunFolder, Settings]:
    """The run and its settings. HEADRACE_SETTINGS, or a deployment's environment, goes without a folder; for what asks
    ``kafka_alone``, HEADRACE_KAFKA is enough of one.

    Raises:
        Unavailable: no such run.
    """
    import os

    from headrace.folder import RunFolder
    from headrace.settings import FILE_VARIABLE, load_settings
    from schemas.errors import Unavailable

    if run is None and (path := os.environ.get(FILE_VARIABLE)):
        return RunFolder(Path(path).resolve().parent), load_settings()
    if run is None and os.environ.get("HEADRACE_KAFKA") and (kafka_alone or os.environ.get("HEADRACE_STORE")):
        return RunFolder.new(), load_settings()  # a deployment: everything is named by the environment
    folder = RunFolder(run.resolve()) if run else RunFolder.latest()
    if not folder.settings_file.is_file():
        raise Unavailable(f"run {folder.root}", "it has no settings.json", "start one with `headrace up` or `headrace demo`")
    return folder, folder.settings()


def open_live_run(run: Path | None, *, kafka_alone: bool = False, needs_kafka: bool = True) -> tuple[RunFolder, Settings]:
    """`open_run` for what speaks to the run's services: told at once where they are its own and it is not up, and within
    seconds where Kafka does not answer.

    Raises:
        Unavailable: no such run, it is not up, or Kafka does not answer.
    """
    from schemas.admission import probe_kafka
    from schemas.errors import Unavailable

    folder, settings = open_run(run, kafka_alone=kafka_alone)
    if stopped(folder, settings):
        own = " and ".join(name.capitalize() for name in settings.embedded)
        raise Unavailable(f"run {folder.root}", f"its own {own} went with it", f"start it: headrace up --run {folder.root}")
    if needs_kafka:
        probe_kafka(settings.connections)
    return folder, settings


def stopped(folder: RunFolder, settings: Settings) -> bool:
    """Whether the run brings services of its own, and nobody has it up."""
    from headrace.services.lock import is_held

    return bool(settings.embedded) and not is_held(folder.root)


def emit(result: Any, file: Path | None) -> None:
    """Write ``result`` as JSON when a file was asked for."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
