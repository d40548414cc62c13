"""The work behind `headrace identifiers`: where versions live, building one, and following what became of its items."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.identifier_data import Source
from headrace.relevance_work import ITEMS, Tell, embedded
from headrace.settings import Settings
from headrace.shop.sink import KafkaSink
from reward.encoder import SentenceEncoder
from schemas import topics
from schemas.artefacts import PATH, Artefacts
from schemas.catalogue import Catalogue
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidEvent, InvalidRequest, Unavailable
from schemas.events import ItemAdded
from schemas.items import ItemTaker
from schemas.store import Store
from serving.requests import ID_LIMIT, TIME_LIMIT
from trainers.identifiers.build import FOLDER, Identifiers, build_identifiers
from trainers.identifiers.drift import Drift, DriftBounds, drift
from trainers.identifiers.life import Life
from trainers.identifiers.mapping import Mapping
from trainers.identifiers.settings import IdentifierSettings
from trainers.journal import read_raw

#: Texts embedded between two reports of progress.
PIECE: Final = 512
#: Longest title of a change, characters: a record has to fit into the topic.
TITLE_LIMIT: Final = 10_000


class Place(NamedTuple):
    """A store of identifiers. ``connections``: of the run that it belongs to, while that can be asked."""

    store: Store
    settings: Settings
    connections: Connections | None


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of changes: an item with its title, or one that is gone."""

    item: str
    title: str = ""
    removed: bool = False


class Given(msgspec.Struct, frozen=True):
    """What `headrace identifiers assign` did. ``unchanged``: items that had this title, or were not there to be removed."""

    version: str
    records: list[ItemAdded]
    unchanged: int
    published: str  #: topic or file


class Built(msgspec.Struct, frozen=True):
    """What `headrace identifiers build` made."""

    version: str
    store: str
    summary: dict[str, object]
    mapping: str = ""  #: path of the mapping from the version it replaces
    moved: float = 0.0  #: share of the items known to both whose identifier differs


def encoder_of(settings: Settings) -> SentenceEncoder:
    """The sentence model that the settings name."""
    model = settings.reward.relevance.model
    return SentenceEncoder(Path(model) if model else None)


def embed(encoder: SentenceEncoder, texts: Sequence[str], tell: Tell) -> NDArray[np.float32]:
    """Unit rows [M, D] of texts, with progress."""
    pieces = [np.zeros((0, encoder.dim), np.float32)]
    for start in range(0, len(texts), PIECE):
        tell(start, len(texts))
        pieces.append(encoder.encode(texts[start : start + PIECE]))
    return np.concatenate(pieces)


def choose(place: Place, version: str = "") -> str:
    """The version that was named, else the one in force, else the only one.

    Raises:
        Unavailable: there is none, or several and none in force.
    """
    if version:
        return version
    if place.store.exists(PATH) and (active := Artefacts.load(place.store).identifiers):
        return active
    found = place.store.names(FOLDER)
    if len(found) == 1:
        return found[0]
    reason, remedy = ("none found", "make some with `headrace identifiers build`")
    if found:
        reason, remedy = f"{', '.join(found)} are there and none is in force", "name one with --version"
    raise Unavailable(f"identifiers in {place.store.url}", reason, remedy)


def build(source: Source, place: Place, settings: IdentifierSettings, seed: int, replaces: str, tell: Tell) -> Built:
    """Embed, build, keep; with ``replaces`` also the mapping from that version's identifiers as they are now.

    The catalogue is kept beside the version: the store's own is that of the build after it.

    Raises:
        Incompatible: the store belongs to a run with another catalogue, or has the same identifiers for other items.
    """
    old = open_life(place, replaces) if replaces else None
    old_items = catalogue_of(place.store, replaces).items if old else ()
    encoder = encoder_of(place.settings)
    emb_ND = embedded(source.catalogue, encoder, place.store, tell)
    made = build_identifiers(
        source.catalogue,
        emb_ND,
        source.queries,
        embed(encoder, source.queries, tell),
        settings,
        seed=seed,
        known_ms=2**62,
        progress=lambda what, share: tell(int(100 * share), 100),
    )
    version = made.save(place.store)
    _keep_catalogue(place.store, version, source.catalogue)
    summary = {"level_sizes": made.level_sizes, "quality": made.quality}
    if old is None:
        return Built(version, place.store.url, summary)
    mapping = Mapping.of(replaces, [*old_items, *old.changed()], old.sid_of, made, source.catalogue)
    return Built(version, place.store.url, summary, mapping.save(place.store), mapping.moved())


def open_life(place: Place, version: str) -> Life:
    """The identifiers as they are now: the version's, and every change since, from the run's topic or the store's file.

    Raises:
        Unavailable, Corrupt, Incompatible: the version is not there, altered, or of another catalogue.
    """
    if not place.store.exists(f"{FOLDER}/{version}"):
        there = ", ".join(place.store.names(FOLDER)) or "none"
        raise Unavailable(
            f"identifiers {version} in {place.store.url}", f"there are {there}", "name one of them with --version"
        )
    life = Life(Identifiers.load(place.store, version), catalogue_of(place.store, version))
    if place.connections is not None:
        life.replay(_published(place.connections, version, life.identifiers.level_sizes))
    elif place.store.exists(_changes(version)):
        life.replay(msgspec.json.Decoder(ItemAdded).decode_lines(place.store.read(_changes(version))))
    return life


def assign(place: Place, version: str, changes: Sequence[Change], ts: int, tell: Tell) -> Given:
    """Give new, retitled and removed items their identifiers and publish them: to the run's topic, else beside the version.

    Raises:
        InvalidRequest: a change names neither a title nor a removal, or both, or could not be published.
    """
    for number, change in enumerate(changes, start=1):
        _check(f"change {number}" if len(changes) > 1 else "change", change)
    if not 0 <= ts <= TIME_LIMIT:
        raise InvalidRequest("--at", ts, f"0 to {TIME_LIMIT} ms", "give milliseconds since 1970")
    life = open_life(place, version)
    titles = [change.title for change in changes if not change.removed]
    emb = iter(embed(encoder_of(place.settings), titles, tell))
    found = [
        life.remove(change.item, ts) if change.removed else life.put(change.item, change.title, next(emb), ts)
        for change in changes
    ]
    records = [record for record in found if record is not None]
    if place.connections is not None:
        sink = KafkaSink(place.connections)
        for record in records:
            sink.send(topics.ITEMS.name, 0, record.item.encode(), encode(record))
        sink.flush()
        target = topics.ITEMS.name
    else:
        target = _changes(version)
        before = place.store.read(target) if place.store.exists(target) else b""
        place.store.write(target, before + b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return Given(version, records, len(changes) - len(records), target)


def drift_of(place: Place, version: str, bounds: DriftBounds, tell: Tell) -> Drift:
    """How the items that came after the fit sit in the codebook: those of the catalogue, and those of the changes."""
    life = open_life(place, version)
    made, catalogue = life.identifiers, catalogue_of(place.store, version)
    later = [catalogue.items[row] for row in np.flatnonzero(~made.known_N)]
    new = [item for item in dict.fromkeys([*later, *life.changed()]) if life.sid_of(item)]
    titles = [life.title_of(item) for item in new]
    emb_MD = made.enhancer.enhance(titles, embed(encoder_of(place.settings), titles, tell))
    sids_ML = np.array([life.sid_of(item) for item in new], dtype=np.int32).reshape(len(new), len(made.level_sizes))
    return drift(made, sids_ML, emb_MD, bounds)


def catalogue_of(store: Store, version: str) -> Catalogue:
    """The catalogue that a version was built for, without attributes: the one beside it; a run's versions share the run's."""
    own = _catalogue_path(version)
    return Catalogue.load(store, own if store.exists(own) else ITEMS, attributes=False)


def _keep_catalogue(store: Store, version: str, catalogue: Catalogue) -> None:
    path = _catalogue_path(version)
    if store.exists(path) and Catalogue.load(store, path, attributes=False).items != catalogue.items:
        raise Incompatible(f"items of identifiers {version}", "those it was built for", "others", "name another --store")
    catalogue.save(store, path)


def _published(connections: Connections, version: str, level_sizes: Sequence[int]) -> list[ItemAdded]:
    """The records of the run's topic under this version; what the other readers of the topic refuse is left out here too."""
    taker, taken = ItemTaker("identifiers", version, level_sizes), list[ItemAdded]()
    for record in read_raw(connections, topics.ITEMS):
        with suppress(InvalidEvent):
            taken.append(taker.take(record.offset, record.value))
    taker.tell()
    return taken


def _check(what: str, change: Change) -> None:
    """Hold a change against what a record may carry: one that readers refuse would keep every later change from being made."""
    item, title = change.item, change.title
    try:
        (item + title).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(what, f"{item} {title}", "valid UTF-8", "check the encoding of your terminal") from error
    if not item or bool(title) == change.removed:
        raise InvalidRequest(what, msgspec.json.encode(change).decode(), "an item with a title, or removed", "correct it")
    if len(item) > ID_LIMIT or (not change.removed and ("," in item or not item.strip())):
        bound = f"1 to {ID_LIMIT} characters, not only space, without a comma"
        raise InvalidRequest(f"item of {what}", item, bound, "give it another id")
    if not change.removed and not title.strip():
        raise InvalidRequest(f"title of {what}", title, "a text that is not only space", "give it a title")
    if len(title) > TITLE_LIMIT:
        value, bound = f"{len(title)} characters", f"at most {TITLE_LIMIT} characters"
        raise InvalidRequest(f"title of {what}", value, bound, "give it a shorter one")


def _changes(version: str) -> str:
    return f"{FOLDER}/{version}/changes.jsonl"


def _catalogue_path(version: str) -> str:
    return f"{FOLDER}/{version}/items.parquet"
