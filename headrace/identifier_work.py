"""The work behind `headrace identifiers`: building a version, and following what became of its items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.identifier_data import Source
from headrace.identifier_place import Place, recorded
from headrace.relevance_work import ITEMS, Tell, embedded
from headrace.settings import Settings
from reward.encoder import SentenceEncoder
from schemas.catalogue import Catalogue
from schemas.errors import Incompatible, Unavailable
from schemas.store import Store
from trainers.identifiers.build import FOLDER, Identifiers, build_identifiers
from trainers.identifiers.drift import Drift, DriftBounds, drift
from trainers.identifiers.life import Life
from trainers.identifiers.mapping import Mapping
from trainers.identifiers.settings import IdentifierSettings

#: Texts embedded between two reports of progress.
PIECE: Final = 512


class Built(msgspec.Struct, frozen=True):
    """What `headrace identifiers build` made."""

    version: str
    store: str
    summary: dict[str, object]
    mapping: str = ""  #: path of the mapping from the version it replaces
    moved: float = 0.0  #: share of the items known to both whose identifier differs
    lost: int = 0  #: items that have an identifier under the replaced version and none under this one

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes of each level, fewer than asked for where there were fewer points to fit."""
        sizes: tuple[int, ...] = self.summary["level_sizes"]  # type: ignore[assignment]
        return sizes


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


def build(source: Source, place: Place, settings: IdentifierSettings, seed: int, replaces: str, tell: Tell) -> Built:
    """Embed, build, keep; with ``replaces`` also the mapping from that version's identifiers as they are now.

    The catalogue is kept beside the version: the store's own is that of the build after it.

    Raises:
        Incompatible: the store belongs to a run with another catalogue, or has the same identifiers for other items.
    """
    old = open_life(place, replaces, "--replaces") if replaces else None
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
    _keep_catalogue(place.store, made.version, source.catalogue)
    version = made.save(place.store)  # what it writes last makes a version of the folder
    summary = {"level_sizes": made.level_sizes, "quality": made.quality}
    if old is None:
        return Built(version, place.store.url, summary)
    mapping = Mapping.of(replaces, [*old_items, *old.changed()], old.sid_of, made, source.catalogue)
    return Built(version, place.store.url, summary, mapping.save(place.store), mapping.moved(), mapping.lost())


def open_life(place: Place, version: str, option: str = "--version") -> Life:
    """The identifiers as they are now: the version's, and every change since, from the run's topic or the store's file.

    Raises:
        Unavailable, Corrupt, Incompatible: the version, which ``option`` named, is not there, altered, or of another catalogue.
    """
    if version not in (found := Identifiers.versions(place.store)):
        there = ", ".join(found) or "none"
        raise Unavailable(
            f"identifiers {version} in {place.store.url}", f"there are {there}", f"name one of them with {option}"
        )
    life = Life(Identifiers.load(place.store, version), catalogue_of(place.store, version))
    life.replay(recorded(place, version, life.identifiers.level_sizes))
    return life


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


def _catalogue_path(version: str) -> str:
    return f"{FOLDER}/{version}/items.parquet"
