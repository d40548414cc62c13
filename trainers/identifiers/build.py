"""Identifiers of a catalogue as one versioned artefact: keyword enhancement, codebook, codes, quality.

Letters: N items, M queries, D embedding width, L = 5 levels.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.lexicon import Lexicon, build_lexicon
from reward.text import normalise
from schemas.arrays import read_arrays
from schemas.catalogue import Catalogue
from schemas.codec import UNREADABLE
from schemas.errors import Corrupt, InvalidValue
from schemas.store import Store
from trainers.identifiers.assign import Assigner, assign_all
from trainers.identifiers.balanced import even_capacity
from trainers.identifiers.codebook import Codebook, fit_codebook
from trainers.identifiers.keywords import Encode, Enhanced, Enhancer, phrase_embeddings, phrase_matrix
from trainers.identifiers.points import Picked, Points, Stacked, rows_of
from trainers.identifiers.quality import Quality, measure
from trainers.identifiers.settings import RESIDUAL_LEVELS, IdentifierSettings
from trainers.identifiers.sids import Sid
from trainers.identifiers.trie import Trie

FloatArray = NDArray[np.float32]
Codes = NDArray[np.int32]
Progress = Callable[[str, float], None]  #: (what is being done, share done so far)

FOLDER = "identifiers"
_SUMMARY = "summary.json"  #: written last: without it a version is none
_REMEDY = "rebuild the identifiers"
#: Most items that are kept out of the fit.
RESERVE = 5_000


@dataclass(frozen=True, eq=False)
class Identifiers:
    """Immutable; `version` names its content. ``sids_NL`` are in the catalogue's row order."""

    codebook: Codebook
    enhancer: Enhancer
    sids_NL: Codes
    quality: Quality
    known_N: NDArray[np.bool_]  #: items that the codebook was fitted for; the others were assigned like any new item
    share_equal_texts: bool = False

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of the sha256 over codebook, lexicon and identifiers."""
        digest = hashlib.sha256(f"{self.codebook.version} {self.enhancer.lexicon.version} {self.enhancer.share}".encode())
        digest.update(np.ascontiguousarray(self.enhancer.phrase_emb_KD).tobytes())
        digest.update(np.ascontiguousarray(self.sids_NL).tobytes())
        return digest.hexdigest()[:12]

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """K of each of the L levels."""
        return self.codebook.level_sizes

    @cached_property
    def trie(self) -> Trie:
        """The trie of all items, those that appear later included (mask them by availability)."""
        return Trie.build(self.sids_NL, self.level_sizes)

    def query_sids(self, queries: Sequence[str], emb_MD: FloatArray) -> Codes:
        """Codes [M, L] of queries from their embeddings: the same codebook, but no place in the trie."""
        return self.codebook.encode(self.enhancer.enhance(queries, emb_MD))

    def assigner(self, catalogue: Catalogue) -> Assigner:
        """For items that are new to this artefact; it knows all identifiers already given."""
        return Assigner(self.codebook, self.share_equal_texts, self.sids_NL, item_text(catalogue))

    def assign_new(self, assigner: Assigner, title: str, emb_D: FloatArray) -> Sid:
        """The identifier of a new item from its title's embedding; no other item's changes."""
        return assigner.assign(self.enhancer.enhance([title], emb_D[None, :])[0], normalise(title))

    def save(self, store: Store) -> str:
        """Write into ``identifiers/<version>``; returns the version. The quality is written last."""
        folder = f"{FOLDER}/{self.version}"
        store.write(f"{folder}/codebook.npz", self.codebook.to_bytes())
        store.write(f"{folder}/lexicon.json", self.enhancer.lexicon.to_bytes())
        arrays = io.BytesIO()
        np.savez(arrays, allow_pickle=False, sids=self.sids_NL, phrases=self.enhancer.phrase_emb_KD, known=self.known_N)
        store.write(f"{folder}/arrays.npz", arrays.getvalue())
        summary = Summary(self.version, self.level_sizes, self.enhancer.share, self.share_equal_texts, self.quality)
        store.write(f"{folder}/{_SUMMARY}", msgspec.json.encode(summary))
        return self.version

    @classmethod
    def load(cls, store: Store, version: str) -> Identifiers:
        """Read what `save` wrote.

        Raises:
            Unavailable: there is no such version.
            Corrupt: a file cannot be read, or the content is not the one that the version names.
        """
        url = f"{store.url}/{FOLDER}/{version}"
        summary_json, lexicon_json, arrays_npz, codebook_npz = (
            store.read(f"{FOLDER}/{version}/{name}") for name in (_SUMMARY, "lexicon.json", "arrays.npz", "codebook.npz")
        )
        try:
            summary = msgspec.json.decode(summary_json, type=Summary)
        except UNREADABLE as error:
            raise Corrupt(f"{url}/{_SUMMARY}", str(error), _REMEDY) from error
        arrays = read_arrays(arrays_npz, f"{url}/arrays.npz", ("phrases", "sids"), _REMEDY)
        lexicon, sids_NL = Lexicon.from_bytes(lexicon_json, f"{url}/lexicon.json"), arrays["sids"]
        known_N = arrays.get("known", np.ones(len(sids_NL), np.bool_))
        enhancer = Enhancer(lexicon, arrays["phrases"], summary.keyword_share)
        codebook = Codebook.from_bytes(codebook_npz, f"{url}/codebook.npz")
        loaded = cls(codebook, enhancer, sids_NL, summary.quality, known_N, summary.share_equal_texts)
        if loaded.version != version:
            raise Corrupt(url, f"content is version {loaded.version}", _REMEDY)
        return loaded

    @staticmethod
    def versions(store: Store) -> list[str]:
        """Those that were written to their end, by name."""
        return [name for name in store.names(FOLDER) if store.exists(f"{FOLDER}/{name}/{_SUMMARY}")]


class Summary(msgspec.Struct, frozen=True):
    """What a person reads first: ``summary.json``."""

    version: str
    level_sizes: tuple[int, ...]
    keyword_share: float
    share_equal_texts: bool
    quality: Quality
    v: int = 1


def item_text(catalogue: Catalogue) -> Callable[[int], str]:
    """Row to the text that decides whether two items may share an identifier."""
    return lambda row: normalise(catalogue.titles[row])


def check_room(catalogue: Catalogue, settings: IdentifierSettings) -> None:
    """Level sizes have to be able to tell the items apart.

    Raises:
        InvalidValue: there are fewer identifiers than items that need one of their own.
    """
    sizes = settings.sizes(len(catalogue))
    needed = len(set(catalogue.titles)) if settings.share_equal_texts else len(catalogue)
    if math.prod(sizes) < needed:
        bound = f"{needed} identifiers or more, one for each " + ("title" if settings.share_equal_texts else "item")
        raise InvalidValue(
            "level sizes", f"{sizes}, {math.prod(sizes)} identifiers", bound, "enlarge them, or leave them out"
        )


def build_identifiers(
    catalogue: Catalogue,
    item_emb_ND: Points,
    queries: Sequence[str],
    query_emb_MD: Points,
    settings: IdentifierSettings | None = None,
    *,
    seed: int = 0,
    known_ms: int = 0,
    encode: Encode | None = None,
    progress: Progress | None = None,
) -> Identifiers:
    """Identifiers of every item; lexicon and codebook from items and queries together. Deterministic in its arguments.

    Args:
        catalogue: N items.
        item_emb_ND: unit embeddings of the titles; a memory-mapped file is read in blocks, some three times.
        queries: M texts of past queries, may be empty.
        query_emb_MD: their unit embeddings.
        settings: defaults if None.
        seed: of k-means and sampling.
        known_ms: items available only after this event time do not shape the codebook; they are assigned afterwards,
            as any new item would be.
        encode: embeds the keywords; without it a keyword's embedding is the mean of its items'.
        progress: told each stage.

    Raises:
        InvalidValue: arrays and texts differ in number, no item is known at ``known_ms``, or as `check_room`.
    """
    settings = settings or IdentifierSettings()
    tell = progress or (lambda stage, share: None)
    if item_emb_ND.shape[0] != len(catalogue) or query_emb_MD.shape[0] != len(queries):
        shapes = f"{item_emb_ND.shape[0]} items, {query_emb_MD.shape[0]} queries"
        raise InvalidValue("embeddings", shapes, f"{len(catalogue)} and {len(queries)} rows", "embed what you pass")
    check_room(catalogue, settings)
    known_N = catalogue.available_from_N <= known_ms
    if not known_N.any():
        raise InvalidValue("known_ms", known_ms, "at or after some item's available_from", "start after the first item")
    tell("keywords", 0.0)
    lexicon = build_lexicon(catalogue.known_by(known_ms))
    tell("keywords", 0.1)
    holds_NK, rows = phrase_matrix(lexicon, catalogue.titles), np.flatnonzero(known_N)
    phrases = phrase_embeddings(lexicon, holds_NK[rows], Picked(item_emb_ND, rows), encode)
    enhancer = Enhancer(lexicon, phrases, settings.keyword_share)
    items = Enhanced(enhancer, holds_NK, item_emb_ND)
    asked = Enhanced(enhancer, phrase_matrix(lexicon, queries), query_emb_MD)
    tell("codebook", 0.2)
    codebook, codes_NL, reserve = _fit(items, rows, asked, settings, seed, tell)
    tell("identifiers", 0.9)
    order = np.concatenate([rows, np.flatnonzero(~known_N)])  # who was there first keeps its code
    text = item_text(catalogue)
    sids_NL = np.empty_like(codes_NL)
    sids_NL[order], moved = assign_all(
        codebook, Picked(items, order), codes_NL[order], lambda at: text(int(order[at])), settings.share_equal_texts
    )
    error = codebook.error(items, sids_NL)
    tell("identifiers", 1.0)
    seen, unseen = (float(error[part].mean()) for part in (rows, reserve if len(reserve) else rows))
    quality = measure(sids_NL, codebook.level_sizes, moved, seen, unseen)
    return Identifiers(codebook, enhancer, sids_NL, quality, known_N, settings.share_equal_texts)


def _fit(
    items: Points, known: NDArray[np.int64], asked: Points, settings: IdentifierSettings, seed: int, tell: Progress
) -> tuple[Codebook, Codes, NDArray[np.int64]]:
    """The codebook on (a sample of) known items and queries, the codes of all items, and the rows that the fit did not see.

    One known item in twenty is kept out of the fit (of large catalogues `RESERVE`), so that the error of items to come is
    known from the start: `trainers.identifiers.drift` needs it.

    The capacity of level 3 holds for all known items and queries together, sample or not; an item that comes later takes
    the nearest cell, as a query does.
    """
    points = Stacked(Picked(items, known), asked) if asked.shape[0] else Picked(items, known)
    count, random = points.shape[0], np.random.default_rng(seed)
    reserve = np.sort(random.choice(len(known), min(len(known) // 20, RESERVE), replace=False))
    fitted = np.setdiff1d(np.arange(count), reserve, assume_unique=True)
    if len(fitted) > settings.max_training_points:
        fitted = np.sort(random.choice(fitted, settings.max_training_points, replace=False))
    codebook = fit_codebook(rows_of(points, fitted), settings.sizes(len(known)), settings, seed)
    tell("codes", 0.7)
    codes_NL = np.empty((items.shape[0], len(codebook.level_sizes)), dtype=np.int32)
    capacity = even_capacity(count, codebook.level_sizes[RESIDUAL_LEVELS - 1], settings.capacity_slack)
    codes_NL[known] = codebook.encode_within(points, capacity)[: len(known)]
    later = np.setdiff1d(np.arange(len(codes_NL)), known, assume_unique=True)
    codes_NL[later] = codebook.encode(Picked(items, later))
    return codebook, codes_NL, known[reserve]
