"""The work behind `headrace relevance`: labelled data opened, titles embedded, a scorer trained, measured, put in force."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.adapters.opening import open_world
from headrace.adapters.tables import read_items, read_judgments, read_queries
from headrace.folder import RunFolder
from headrace.services.lock import hold
from headrace.settings import Settings
from reward.encoder import SentenceEncoder
from reward.judgments import Judgment
from reward.relevance import RelevanceScorer
from reward.relevance_report import RelevanceReport
from reward.relevance_training import too_few
from reward.settings import RelevanceSettings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.errors import Incompatible, InvalidData
from schemas.store import Store

ITEMS: Final = "catalogue/items.parquet"
EMBEDDINGS: Final = "catalogue/embeddings.npy"
#: Titles embedded between two reports of progress, and how many of a kept embedding are checked.
PIECE: Final = 512
CHECKED: Final = 8

#: (done, of)
Tell = Callable[[int, int], None]


class Labelled(NamedTuple):
    """What a scorer is trained on. ``held_out`` are judgments that the data keep apart for evaluation."""

    catalogue: Catalogue
    judgments: Sequence[Judgment]
    held_out: Sequence[Judgment]


class TrainedScorer(msgspec.Struct, frozen=True):
    """What `headrace relevance train` made. The first of ``splits`` is the scorer's own; the others say how steady it is."""

    version: str
    store: str
    splits: list[RelevanceReport]
    held_out: RelevanceReport | None


def open_labelled(data: str, settings: Settings, now_ms: int, seed: int, items: int | None = None) -> Labelled:
    """Catalogue and judgments of the shop or a folder. Of a folder of your own only the three tables are read, no log.

    Raises:
        InvalidSetting, InvalidData: as `headrace.adapters.opening.open_world`.
    """
    folder = Path(data)
    if (folder / "items.parquet").is_file() and items is None:
        catalogue, _ = read_items(folder)
        ordinary, held_out = read_judgments(folder, read_queries(folder), catalogue)
        return Labelled(catalogue, ordinary, held_out)
    world = open_world(data, settings.shop, now_ms, seed, items)
    return Labelled(world.catalogue, world.judgments, ())


def train_scorer(
    labelled: Labelled, store: Store, settings: RelevanceSettings, seed: int, splits: int, tell: Tell
) -> TrainedScorer:
    """Train on ``splits`` splits of the queries, keep the first scorer in the store, and measure it on what was held out.

    Raises:
        InvalidData: there are too few judgments to train on.
        Unavailable, InvalidValue: the settings name an endpoint that does not answer as documented.
    """
    if len(labelled.judgments) < settings.min_judgments:
        raise too_few(len(labelled.judgments), settings)
    encoder = SentenceEncoder(Path(settings.model) if settings.model else None)
    emb_ND = embedded(labelled.catalogue, encoder, store, tell)
    reports: list[RelevanceReport] = []
    version, held_out = "", None
    for n in range(splits):
        tell(n, splits)
        scorer, report = RelevanceScorer.train(labelled.judgments, labelled.catalogue, emb_ND, encoder, settings, seed + n)
        if not report.trained:
            raise InvalidData("judgments", None, "queries", report.queries, "enough to be split three ways (10)")
        reports.append(report)
        if n == 0:
            version = scorer.save(store)
            held_out = scorer.measure(labelled.held_out) if labelled.held_out else None
    tell(splits, splits)
    return TrainedScorer(version, store.url, reports, held_out)


def embedded(catalogue: Catalogue, encoder: SentenceEncoder, store: Store, tell: Tell) -> NDArray[np.float32]:
    """The store's embeddings if they are this catalogue's and this model's; else they are made, and kept with the catalogue.

    Raises:
        Incompatible: a run lives in the store, and its embeddings are others.
    """
    if store.exists(ITEMS) and store.exists(EMBEDDINGS) and Catalogue.load(store).titles == catalogue.titles:
        emb_ND: NDArray[np.float32] = np.load(io.BytesIO(store.read(EMBEDDINGS)))
        some = np.linspace(0, len(catalogue) - 1, CHECKED).astype(np.int64)
        sample = encoder.encode([catalogue.titles[row] for row in some])
        if emb_ND.shape == (len(catalogue), encoder.dim) and np.allclose(emb_ND[some], sample, atol=1e-3):
            return emb_ND
    if store.exists("artefacts.json"):
        remedy = "name another --store: this one belongs to a run"
        raise Incompatible(f"catalogue or sentence model of {store.url}", "the run's", "another", remedy)
    pieces = []
    for start in range(0, len(catalogue), PIECE):
        tell(start, len(catalogue))
        pieces.append(encoder.encode(catalogue.titles[start : start + PIECE]))
    emb_ND, buffer = np.concatenate(pieces), io.BytesIO()
    np.save(buffer, emb_ND)
    store.write(EMBEDDINGS, buffer.getvalue())
    catalogue.save(store, ITEMS)
    tell(len(catalogue), len(catalogue))
    return emb_ND


def put_in_force(folder: RunFolder, settings: Settings, version: str) -> Artefacts:
    """The run's next start takes this version. Refused while it is up: its processes read the scorer when they start.

    Raises:
        Conflict: the run is up.
        Unavailable, Corrupt, Incompatible: the version cannot be loaded over the run's catalogue.
    """
    store = Store(settings.store)
    with hold(folder.root):
        model = settings.reward.relevance.model
        RelevanceScorer.load(store, version, Catalogue.load(store), SentenceEncoder(Path(model) if model else None))
        artefacts = msgspec.structs.replace(Artefacts.load(store), relevance=version)
        artefacts.save(store)
    return artefacts
