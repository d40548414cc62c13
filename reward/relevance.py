"""Relevance tiers for any (query, item): the judgment where there is one, else the scorer trained on judgments."""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.encoder import SentenceEncoder
from reward.judgments import Judgment
from reward.relevance_features import Features, Geometry
from reward.relevance_model import TierModel
from reward.relevance_report import RelevanceReport
from reward.relevance_training import train_model
from reward.settings import RelevanceSettings
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.errors import Corrupt, Incompatible
from schemas.store import Store, sha256

Ints = NDArray[np.int64]
Tier = NDArray[np.int8]
Confidence = NDArray[np.float32]

#: Pairs scored at a time: bounds memory, not the result.
CHUNK: Final = 4_096


class _Header(msgspec.Struct, frozen=True):
    encoder: str
    cached_queries: int
    report: RelevanceReport
    judgments: list[tuple[str, str, int]]  # normalised query, item, tier
    v: int = 1


class RelevanceScorer:
    """Tiers 0 to 3 with confidence. ``version`` names model, judgments and encoder; ``report`` says how good it is."""

    def __init__(
        self,
        model: TierModel,
        geometry: Geometry,
        header: _Header,
        catalogue: Catalogue,
        item_emb_ND: NDArray[np.float32],
        encoder: SentenceEncoder,
    ) -> None:
        self._model, self._geometry, self._header = model, geometry, header
        self.report = header.report
        self._features = Features(catalogue, item_emb_ND, encoder, geometry, header.cached_queries)
        by_query: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for query, item, tier in header.judgments:
            if item in catalogue.row:
                by_query[query][catalogue.row[item]] = tier
        self._judged = {
            query: (np.array(sorted(known), np.int64), np.array([known[row] for row in sorted(known)], np.int8))
            for query, known in by_query.items()
        }
        self.version = sha256(self._model_bytes() + msgspec.json.encode(header))[:12]

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

        Judgments of items outside the catalogue are left out. With fewer than ``settings.min_judgments`` left there is
        nothing to train on: tiers then go by the embeddings' cosine alone, and the report's ``trained`` says so. Where the
        titles are only ids, every tier is 0, and ``textless`` says so.

        Raises:
            InvalidData: a tier outside 0 to 3.
        """
        geometry = Geometry.fit(item_emb_ND, settings.projection)
        features = Features(catalogue, item_emb_ND, encoder, geometry, settings.cached_queries)
        known = [Judgment(normalise(j.query), j.item, j.tier) for j in judgments if j.item in catalogue.row]
        model, report = train_model(known, catalogue, features, settings, seed)
        header = _Header(
            encoder.version, settings.cached_queries, report, sorted({(j.query, j.item, j.tier) for j in known})
        )
        # As it will be read back: an int where a float belongs would be written otherwise, and give another version.
        header = msgspec.json.decode(msgspec.json.encode(header), type=_Header)
        return cls(model, geometry, header, catalogue, item_emb_ND, encoder), header.report

    def tiers(self, query: str, rows: Ints) -> tuple[Tier, Confidence]:
        """(tier_N, confidence_N) of catalogue rows; confidence is the tier's probability, 1 for a judgment."""
        key, rows_N = normalise(query), np.asarray(rows, np.int64)
        tier_N, confidence_N = self.scored(key, rows_N)
        judged = self._judged.get(key)
        if judged is not None:
            known_J, tier_J = judged
            place_N = np.minimum(np.searchsorted(known_J, rows_N), len(known_J) - 1)
            hit_N = known_J[place_N] == rows_N
            tier_N[hit_N], confidence_N[hit_N] = tier_J[place_N[hit_N]], 1.0
        return tier_N, confidence_N

    def tiers_many(self, queries: Sequence[str], rows: Ints) -> tuple[Tier, Confidence]:
        """As `tiers`, for P pairs: ``queries[p]`` with ``rows[p]``."""
        rows_P = np.asarray(rows, np.int64)
        tier_P, confidence_P = np.empty(len(rows_P), np.int8), np.empty(len(rows_P), np.float32)
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, query in enumerate(queries):
            places[query].append(place)
        for query, where in places.items():
            tier_P[where], confidence_P[where] = self.tiers(query, rows_P[where])
        return tier_P, confidence_P

    def scored(self, query_key: str, rows_N: Ints) -> tuple[Tier, Confidence]:
        """What the model says of a normalised query, judgments or not."""
        tier_N, confidence_N = np.empty(len(rows_N), np.int8), np.empty(len(rows_N), np.float32)
        for start in range(0, len(rows_N), CHUNK):
            part = slice(start, start + CHUNK)
            tier_N[part], confidence_N[part] = self._model.tiers(self._features.of(query_key, rows_N[part]))
        return tier_N, confidence_N

    def save(self, store: Store) -> str:
        """Write into ``relevance/<version>/``; returns the version."""
        folder = f"relevance/{self.version}"
        store.write(f"{folder}/model.npz", self._model_bytes())
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
            Incompatible: another sentence model made its embeddings, or they are of another catalogue.
            Corrupt: a file is not what its version says.
        """
        folder = f"relevance/{version}"
        try:
            header = msgspec.json.decode(store.read(f"{folder}/scorer.json"), type=_Header)
            arrays = dict(np.load(io.BytesIO(store.read(f"{folder}/model.npz"))))
            emb_ND = np.load(io.BytesIO(store.read("catalogue/embeddings.npy"))) if item_emb_ND is None else item_emb_ND
            geometry = Geometry(*(arrays.pop(name) for name in ("mean_D", "covariance_DD", "axes_DK")))
            model = TierModel(**{**arrays, "temperature": float(arrays["temperature"])})
        except (msgspec.DecodeError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise Corrupt(f"{store.url}/{folder}", str(error), "train the scorer again") from error
        if header.encoder != encoder.version:
            raise Incompatible("sentence model of the scorer", header.encoder, encoder.version, "train the scorer again")
        if len(emb_ND) != len(catalogue):
            raise Incompatible("rows of the item embeddings", len(catalogue), len(emb_ND), "embed the catalogue again")
        scorer = cls(model, geometry, header, catalogue, emb_ND, encoder)
        if scorer.version != version:
            raise Corrupt(f"{store.url}/{folder}", f"contents are version {scorer.version}", "train the scorer again")
        return scorer

    def _model_bytes(self) -> bytes:
        arrays: dict[str, Any] = {**vars(self._model), **vars(self._geometry)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()
