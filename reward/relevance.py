"""Relevance tiers for any (query, item): the judgment where there is one, else a scorer calibrated on judgments."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.attributes import still_held
from reward.encoder import SentenceEncoder
from reward.judgments import Judgment
from reward.relevance_calibration import Calibration
from reward.relevance_endpoint import Endpoint, EndpointScorer
from reward.relevance_features import Features, Geometry
from reward.relevance_network import Network
from reward.relevance_report import Borders, RelevanceReport
from reward.relevance_scorer import NetworkScorer, PairScorer
from reward.relevance_training import Pairs, measured, train
from reward.settings import RelevanceSettings
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.errors import Corrupt, Incompatible, InvalidData
from schemas.store import Store, sha256

Ints = NDArray[np.int64]
Tier = NDArray[np.int8]
Confidence = NDArray[np.float32]

#: Form of the artefact.
FORM: Final = 2
REMEDY: Final = "train the scorer again (headrace relevance train)"


class OwnNetwork(msgspec.Struct, frozen=True, tag="network"):
    """The scorer is the network in ``model.npz``."""


class Header(msgspec.Struct, frozen=True):
    """``scorer.json`` of an artefact."""

    encoder: str
    cached_queries: int
    report: RelevanceReport
    scorer: OwnNetwork | Endpoint
    calibration: Calibration
    borders: Borders | None
    judgments: list[tuple[str, str, int]]  # normalised query, item, tier
    v: int = FORM


class _Form(msgspec.Struct):
    v: int = 1


class RelevanceScorer:
    """Tiers 0 to 3 with confidence. ``version`` names model, judgments and encoder; ``report`` says how good it is."""

    def __init__(self, header: Header, model: bytes, catalogue: Catalogue, features: Features, scorer: PairScorer) -> None:
        self._header, self._model = header, model
        self._first, self._later = self, dict[str, NDArray[np.float32]]()
        #: What was made last: of these rows, their items and words, this scorer.
        self._last: tuple[list[tuple[int, str, str, str, str]], RelevanceScorer] | None = None
        self._catalogue, self._features, self._scorer = catalogue, features, scorer
        self.report = header.report
        self.version = _version(msgspec.json.encode(header), model)
        kept = [(query, catalogue.row[item], tier) for query, item, tier in header.judgments if item in catalogue.row]
        self._judged = {query: n for n, query in enumerate(dict.fromkeys(query for query, _, _ in kept))}
        key_J = np.array([self._judged[query] * len(catalogue) + row for query, row, _ in kept], np.int64)
        order_J = np.argsort(key_J, kind="stable")
        self._key_J, self._tier_J = key_J[order_J], np.array([tier for *_, tier in kept], np.int8)[order_J]

    @classmethod
    def train(
        cls,
        judgments: Sequence[Judgment],
        catalogue: Catalogue,
        item_emb_ND: NDArray[np.float32],
        encoder: SentenceEncoder,
        settings: RelevanceSettings,
        seed: int,
    ) -> tuple[RelevanceScorer, RelevanceReport]:
        """Fit on judged queries, calibrate on others, report on others still. Deterministic given ``seed``.

        With ``settings.endpoint`` nothing is fitted: the model there is calibrated and reported on. Without it, and with
        fewer than ``settings.min_judgments``, tiers go by the embeddings' cosine alone, and the report's ``trained`` says
        so. Where the titles are only ids, every tier is 0, and ``textless`` says so.

        Raises:
            InvalidData: a tier outside 0 to 3, an item that the catalogue lacks, too few judgments for an endpoint.
            Unavailable: the endpoint does not answer as documented.
        """
        geometry = Geometry.fit(item_emb_ND)
        features = Features(catalogue, item_emb_ND, encoder, geometry, settings.cached_queries)
        pairs = Pairs.of(judgments, catalogue)
        given = EndpointScorer.connect(settings, catalogue) if settings.endpoint else None
        trained = train(pairs, catalogue, features, settings, seed, given)
        scorer, model = trained.scorer, b""
        if isinstance(scorer, NetworkScorer):
            model = _packed({**asdict(scorer.network), **asdict(geometry)})
        header = Header(
            encoder=encoder.version,
            cached_queries=settings.cached_queries,
            report=trained.report,
            scorer=given.endpoint if given is not None else OwnNetwork(),
            calibration=trained.calibration,
            borders=trained.borders,
            judgments=sorted({(normalise(j.query), j.item, int(j.tier)) for j in judgments}),
        )
        # As it will be read back: an int where a float belongs would be written otherwise, and give another version.
        header = msgspec.json.decode(msgspec.json.encode(header), type=Header)
        return cls(header, model, catalogue, features, scorer), header.report

    def tiers(self, query: str, rows: Ints) -> tuple[Tier, Confidence]:
        """(tier_N, confidence_N) of catalogue rows; confidence is the tier's probability, 1 for a judgment."""
        rows_N = np.asarray(rows, np.int64)
        return self._tiers([normalise(query)], np.zeros(len(rows_N), np.int64), rows_N)

    def tiers_many(self, queries: Sequence[str], rows: Ints) -> tuple[Tier, Confidence]:
        """As `tiers`, for P pairs: ``queries[p]`` with ``rows[p]``."""
        number: dict[str, int] = {}
        which_P = np.array([number.setdefault(normalise(query), len(number)) for query in queries], np.int64)
        return self._tiers(list(number), which_P, np.asarray(rows, np.int64))

    def over(self, catalogue: Catalogue, encode: Callable[[list[str]], NDArray[np.float32]]) -> RelevanceScorer:
        """The same scorer over what its catalogue has become: some rows are described otherwise, those behind the last one are new.

        What it was made of (how rare words are, how titles lie) stays, so an item that did not change keeps its features, and one
        that did loses the attributes of which its old words spoke. The
        result depends on the two catalogues alone, not on the steps between them: each title is embedded by itself.
        """
        first = self._first
        known, now = (zip(c.titles, c.categories, c.brands, strict=True) for c in (first._catalogue, catalogue))
        changed = [n for n, (old, new) in enumerate(zip(known, now, strict=False)) if old != new]
        rows = [*changed, *range(len(first._catalogue), len(catalogue))]
        if not rows:
            return first
        told = [(n, catalogue.items[n], catalogue.titles[n], catalogue.categories[n], catalogue.brands[n]) for n in rows]
        if first._last and first._last[0] == told:
            return first._last[1]  # another price is no other scorer
        catalogue = still_held(first._catalogue, catalogue, changed)
        titles, known_emb = [catalogue.titles[row] for row in rows], first._later
        emb = {title: known_emb[title] if title in known_emb else encode([title])[0] for title in dict.fromkeys(titles)}
        first._later = emb  # of titles that are gone nothing is kept
        features = first._features.over(catalogue, rows, np.stack([emb[title] for title in titles]))
        scorer = first._scorer.over(catalogue, features)
        made = RelevanceScorer(self._header, self._model, catalogue, features, scorer)
        made._first = first
        first._last = told, made
        return made

    def measure(self, judgments: Sequence[Judgment]) -> RelevanceReport:
        """How the scorer itself, judgments aside, agrees with judgments that it was not trained on.

        Raises:
            InvalidData: there are none, or one is not as it should be.
            Incompatible: this scorer was never trained.
        """
        if not judgments:
            raise InvalidData("judgments", None, "number", 0, "at least 1")
        if self._header.borders is None:
            raise Incompatible("relevance scorer", "a trained one", str(self.report), REMEDY)
        pairs = Pairs.of(judgments, self._catalogue)
        logit_MT = self._scorer.logits(pairs.queries, pairs.which_P, pairs.rows_P)
        return measured(
            pairs, pairs.features(self._features), logit_MT, self._header.calibration, self._header.borders,
            len(self._header.judgments), len(self._judged),
        )  # fmt: skip

    def _tiers(self, queries: list[str], which_P: Ints, rows_P: Ints) -> tuple[Tier, Confidence]:
        """Of the pairs (queries[which_P[p]], rows_P[p]); queries are distinct and normalised."""
        judged_P, place_P = self._judgments(queries, which_P, rows_P)
        tier_P, confidence_P = np.empty(len(rows_P), np.int8), np.ones(len(rows_P), np.float32)
        tier_P[judged_P] = self._tier_J[place_P[judged_P]]
        unjudged_P = ~judged_P
        logit_PT = self._scorer.logits(queries, which_P[unjudged_P], rows_P[unjudged_P])
        tier_P[unjudged_P], confidence_P[unjudged_P] = self._header.calibration.tiers(logit_PT)
        return tier_P, confidence_P

    def _judgments(self, queries: list[str], which_P: Ints, rows_P: Ints) -> tuple[NDArray[np.bool_], Ints]:
        """(whether pair p is judged, its place among the judgments)."""
        if not len(self._key_J):
            return np.zeros(len(rows_P), bool), np.zeros(len(rows_P), np.int64)
        number_U = np.array([self._judged.get(query, -1) for query in queries], np.int64)
        key_P = number_U[which_P] * len(self._catalogue) + rows_P
        # The last of a pair's judgments, which are in the order of their tiers: the highest is believed.
        place_P = np.maximum(0, np.searchsorted(self._key_J, key_P, side="right") - 1)
        return (self._key_J[place_P] == key_P) & (number_U[which_P] >= 0), place_P

    def save(self, store: Store) -> str:
        """Write into ``relevance/<version>/``; returns the version."""
        folder = f"relevance/{self.version}"
        if self._model:
            store.write(f"{folder}/model.npz", self._model)
        store.write(f"{folder}/scorer.json", msgspec.json.encode(self._header))  # last: it makes the folder whole
        return self.version

    @classmethod
    def load(
        cls,
        store: Store,
        version: str,
        catalogue: Catalogue,
        encoder: SentenceEncoder,
        item_emb_ND: NDArray[np.float32] | None = None,
    ) -> RelevanceScorer:
        """What `save` wrote. Embeddings default to ``catalogue/embeddings.npy``.

        Raises:
            Unavailable: there is no such version.
            Incompatible: another sentence model made its embeddings, they are of another catalogue, or its form is older.
            Corrupt: a file is not what its version says.
        """
        header, model = read_artefact(store, version)
        if header.encoder != encoder.version:
            raise Incompatible("sentence model of the scorer", header.encoder, encoder.version, REMEDY)
        try:
            emb_ND = np.load(io.BytesIO(store.read("catalogue/embeddings.npy"))) if item_emb_ND is None else item_emb_ND
        except (ValueError, EOFError) as error:
            raise Corrupt(f"{store.url}/catalogue/embeddings.npy", str(error), "embed the catalogue again") from error
        if len(emb_ND) != len(catalogue):
            raise Incompatible("rows of the item embeddings", len(catalogue), len(emb_ND), "embed the catalogue again")
        if isinstance(header.scorer, Endpoint):
            features = Features(catalogue, emb_ND, encoder, Geometry.fit(emb_ND), header.cached_queries)
            return cls(header, model, catalogue, features, EndpointScorer(header.scorer, catalogue))
        try:
            arrays = dict(np.load(io.BytesIO(model)))
            geometry = Geometry(*(arrays.pop(name) for name in ("mean_D", "covariance_DD")))
            network = Network(**arrays)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise Corrupt(f"{store.url}/relevance/{version}/model.npz", str(error), REMEDY) from error
        features = Features(catalogue, emb_ND, encoder, geometry, header.cached_queries)
        return cls(header, model, catalogue, features, NetworkScorer(features, network))


def read_artefact(store: Store, version: str) -> tuple[Header, bytes]:
    """(header, bytes of the model, empty for an endpoint) of a version, held against its checksum.

    Raises:
        Unavailable, Incompatible, Corrupt: as `RelevanceScorer.load`.
    """
    folder = f"relevance/{version}"
    raw = store.read(f"{folder}/scorer.json")
    try:
        form = msgspec.json.decode(raw, type=_Form).v
        if form != FORM:
            raise Incompatible(f"form of {store.url}/{folder}", FORM, form, REMEDY)
        header = msgspec.json.decode(raw, type=Header)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{store.url}/{folder}/scorer.json", str(error), REMEDY) from error
    model = store.read(f"{folder}/model.npz") if isinstance(header.scorer, OwnNetwork) else b""
    if _version(raw, model) != version:
        raise Corrupt(f"{store.url}/{folder}", f"its contents are version {_version(raw, model)}", REMEDY)
    return header, model


def _version(header: bytes, model: bytes) -> str:
    return sha256(model + header)[:12]


def _packed(arrays: dict[str, NDArray[np.float32]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
