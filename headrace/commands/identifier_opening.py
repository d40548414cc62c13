"""What a command of `headrace identifiers` works on, from its options: a store or a run, data, settings, seed."""

from __future__ import annotations

import time
from pathlib import Path

from headrace.commands.common import open_live_run, open_run, stopped
from headrace.identifier_data import Source, open_source
from headrace.identifier_place import Place
from headrace.settings import load_settings
from headrace.terminal import terminal
from schemas.errors import InvalidRequest
from schemas.store import Store
from trainers.identifiers.settings import IdentifierSettings


def open_place(store: str, run: Path | None, *, live: bool = False, tell: bool = False) -> Place:
    """The store that was named, else the run's, with its broker while it is up.

    Args:
        live: the run has to be up.
        tell: where it is not, say on stderr that changes since the build are not known.

    Raises:
        InvalidRequest: both are named.
        Unavailable: no such run, or it is to be live and is not.
    """
    if store and run:
        raise InvalidRequest("--run", str(run), "left out with --store", "name the run, or a store that belongs to none")
    if store:
        return Place(Store(store), load_settings(), None)
    folder, settings = open_live_run(run) if live else open_run(run)
    ended = stopped(folder, settings)
    if ended and tell:
        said = "is not up: identifiers are shown as they were built, without the changes since"
        terminal(stderr=True).print(
            f"run {folder.root} {said}; to see those: headrace up --run {folder.root}", soft_wrap=True
        )
    return Place(Store(settings.store), settings, None if ended else settings.connections)


def open_all(
    data: str, store: str, items: int | None, sizes: str, seed: int | None, run: Path | None, *, live: bool = False
) -> tuple[Source, Place, IdentifierSettings, int]:
    """Source, place, settings and seed of a command that fits; ``live``: a run has to be up.

    Raises:
        InvalidRequest: options that do not go together, or sizes that cannot be.
        InvalidSetting, InvalidData, Unavailable: as `open_place` and `headrace.identifier_data.open_source`.
    """
    if data and run:
        raise InvalidRequest("--run", str(run), "left out with --data", "name the data and a store, or the run alone")
    if (store or items) and not data:
        raise InvalidRequest("--data", data, "given with --store and --items", "name the data, or leave both out")
    if data:
        settings = load_settings()
        of_run = not store and settings.store and settings.kafka  # the environment names a run, whose changes are in Kafka
        place = (
            open_place("", None, live=live) if of_run else Place(Store(store or settings.store or "store"), settings, None)
        )
    else:
        place = open_place("", run, live=live)
        settings = place.settings
    number = settings.seed if seed is None else seed
    now_ms, shop = settings.now_ms or int(time.time() * 1000), number if data else settings.seed  # a run's shop is its own
    how = settings.trainers.identifiers
    if sizes:
        try:
            how = IdentifierSettings.model_validate(how.model_dump() | {"level_sizes": tuple(map(int, sizes.split("/")))})
        except ValueError as error:
            raise InvalidRequest("--sizes", sizes, "5 numbers from 1 to 65536 with / between", "correct it") from error
    return open_source(data or settings.data, settings, now_ms, shop, items), place, how, number
