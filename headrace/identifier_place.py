"""Where identifiers live: a store with versions, and the records of what became of their items, in the run's topic or beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from headrace.settings import Settings
from headrace.shop.sink import KafkaSink
from schemas.artefacts import PATH, Artefacts
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Corrupt, InvalidEvent, Unavailable, short
from schemas.events import ItemAdded
from schemas.items import ItemTaker, read_item
from schemas.single import single
from schemas.store import Store
from schemas.topics import ITEMS
from trainers.identifiers.build import FOLDER, Identifiers
from trainers.journal import read_raw


class Place(NamedTuple):
    """A store of identifiers. ``connections``: of the run that it belongs to, while that can be asked."""

    store: Store
    settings: Settings
    connections: Connections | None


def in_force(store: Store) -> str:
    """The version that the run of this store uses; empty: none, as in a store without a run."""
    return Artefacts.load(store).identifiers if store.exists(PATH) else ""


def choose(place: Place, version: str = "") -> str:
    """The version that was named, else the one in force, else the only one.

    Raises:
        Unavailable: there is none, or several and none in force.
    """
    if version or (version := in_force(place.store)):
        return version
    found = Identifiers.versions(place.store)
    if len(found) == 1:
        return found[0]
    reason, remedy = ("none found", "make some with `headrace identifiers build`")
    if found:
        reason, remedy = f"{', '.join(found)} are there and none is in force", "name one with --version"
    raise Unavailable(f"identifiers in {place.store.url}", reason, remedy)


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Be the one writer of records while the context lasts: who gives identifiers has to know all that were given.

    Raises:
        Conflict: a process of this machine is; the message names it. Of one on another machine nobody knows.
    """
    local = place.store.local
    where = place.connections.kafka if place.connections else str(local.resolve()) if local else place.store.url
    with single(where, "identifiers", f"the writer of identifiers at {where}", "try again when that one has ended"):
        yield


def recorded(place: Place, version: str, level_sizes: Sequence[int]) -> list[ItemAdded]:
    """The records of changes under this version, in their order. What the other readers of the run's topic refuse is left out
    here too.

    Raises:
        Corrupt: a line of a store's file cannot be used: nobody else writes there.
        Unavailable: the broker does not answer.
    """
    if place.connections is None:
        return _kept(place.store, version, level_sizes)
    taker, taken = ItemTaker("identifiers", version, level_sizes), list[ItemAdded]()
    for record in read_raw(place.connections, ITEMS):
        with suppress(InvalidEvent):
            taken.append(taker.take(record.offset, record.value))
    taker.tell()
    return taken


def record(place: Place, version: str, records: Sequence[ItemAdded]) -> str:
    """Append the records; returns the topic or file. For the one writer (`alone`).

    Raises:
        Unavailable: the broker does not keep them.
    """
    if place.connections is not None:
        sink = KafkaSink(place.connections)
        for item in records:
            sink.send(ITEMS.name, 0, item.item.encode(), encode(item))
        sink.flush()
        return ITEMS.name
    path = _file(version)
    before = place.store.read(path) if place.store.exists(path) else b""
    place.store.write(path, before + b"".join(encode(item) + b"\n" for item in records))
    return path


def _kept(store: Store, version: str, level_sizes: Sequence[int]) -> list[ItemAdded]:
    path, kept = _file(version), list[ItemAdded]()
    lines = store.read(path).splitlines() if store.exists(path) else []
    for number, line in enumerate(lines, start=1):
        try:
            kept.append(read_item(line, version, level_sizes))
        except InvalidEvent as error:
            check = f"line {number}: {error.what} is {short(error.value)}, but must be {error.bound}"
            raise Corrupt(f"{store.url}/{path}", check, "restore the file, or correct the line") from error
    return kept


def _file(version: str) -> str:
    return f"{FOLDER}/{version}/changes.jsonl"
