"""The work behind `headrace identifiers`: where versions live, building one, and following what became of its items."""

from __future__ import annotations

from collections.abc import Sequence
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
from schemas.errors import InvalidRequest, Unavailable
from schemas.events import ItemAdded
from schemas.store import Store
from trainers.identifiers.build import FOLDER, Identifiers, build_identifiers
from trainers.identifiers.drift import Drift, DriftBounds, drift
from trainers.identifiers.life import Life
from trainers.identifiers.mapping import Mapping
from trainers.identifiers.settings import IdentifierSettings
from trainers.journal import read_topic

#: Texts embedded between two reports of progress.
PIECE: Final = 512


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

    Raises:
        Incompatible: the store belongs to a run with another catalogue.
    """
    old = open_life(place, replaces) if replaces else None
    old_items = Catalogue.load(place.store, ITEMS, attributes=False).items if old else ()
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
    life = Life(Identifiers.load(place.store, version), Catalogue.load(place.store, ITEMS, attributes=False))
    if place.connections is not None:
        records: list[ItemAdded] = read_topic(place.connections, topics.ITEMS)
        life.replay(record for record in records if record.codebook_version == version)
    elif place.store.exists(_changes(version)):
        life.replay(msgspec.json.Decoder(ItemAdded).decode_lines(place.store.read(_changes(version))))
    return life


def assign(place: Place, version: str, changes: Sequence[Change], ts: int, tell: Tell) -> Given:
    """Give new, retitled and removed items their identifiers and publish them: to the run's topic, else beside the version.

    Raises:
        InvalidRequest: a change names neither a title nor a removal, or both.
    """
    for change in changes:
        if not change.item or bool(change.title) == change.removed:
            raise InvalidRequest(
                "change", msgspec.json.encode(change).decode(), "an item with a title, or removed", "correct it"
            )
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
    made, catalogue = life.identifiers, Catalogue.load(place.store, ITEMS, attributes=False)
    later = [catalogue.items[row] for row in np.flatnonzero(~made.known_N)]
    new = [item for item in dict.fromkeys([*later, *life.changed()]) if life.sid_of(item)]
    titles = [life.title_of(item) for item in new]
    emb_MD = made.enhancer.enhance(titles, embed(encoder_of(place.settings), titles, tell))
    sids_ML = np.array([life.sid_of(item) for item in new], dtype=np.int32).reshape(len(new), len(made.level_sizes))
    return drift(made, sids_ML, emb_MD, bounds)


def _changes(version: str) -> str:
    return f"{FOLDER}/{version}/changes.jsonl"
