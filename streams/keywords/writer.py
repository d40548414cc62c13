"""Writers of keyword chains: the interface, and the default one that knows the catalogue's text and the clicks.

query -> analysis (words corrected, lexicon matched) -> candidates (its own keywords, and those of the items that it
finds) -> calibration (items weigh by overlap and CTR; what they do not support goes) -> the chain as text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.lexicon import STOP_WORDS, Lexicon, Phrase
from reward.speller import Speller
from reward.text import normalise, tokens
from schemas.catalogue import Catalogue
from schemas.errors import Unavailable
from schemas.keywords import KeywordChain
from schemas.store import sha256
from streams.keywords.settings import WriterSettings


class WriterFailed(Unavailable):
    """A writer gave up on a query; the query is tried again when it is next seen."""


class KeywordWriter(Protocol):
    """Finds the keywords of a query: from the catalogue, from a language model behind an endpoint, from a local one.

    ``version`` changes when the same query may give another chain for a reason other than the passing of time.
    """

    version: str

    async def write(self, query: str) -> KeywordChain:
        """The chain of a normalised query.

        Raises:
            WriterFailed: it cannot be found now. Anything else ends the worker.
        """
        ...


class _Ctr(Protocol):
    @property
    def mean_N(self) -> NDArray[np.float64]: ...


class Clicks(Protocol):
    """Click statistics; `reward.snapshot.PosteriorSnapshot` is one."""

    def ctr(self, query_key: str, items: Sequence[str]) -> _Ctr:
        """Posterior CTR of items under a normalised query."""
        ...


class Support(NamedTuple):
    """Items that a query finds: rows, and weights that add up to 1."""

    rows_R: NDArray[np.int64]
    weight_R: NDArray[np.float64]


class CatalogueWriter:
    """Needs no model. Give it click statistics through `clicks` whenever there are newer ones."""

    def __init__(self, catalogue: Catalogue, lexicon: Lexicon, settings: WriterSettings | None = None) -> None:
        self.settings = settings or WriterSettings()
        self.version = sha256(f"catalogue 1 {lexicon.version} {self.settings.model_dump_json()}".encode())[:12]
        self.clicks: Clicks | None = None
        self._catalogue, self._lexicon = catalogue, lexicon
        self._speller = Speller(lexicon.words)
        self._phrases_of: list[NDArray[np.int64]] = [
            np.array(_item_phrases(catalogue, row, lexicon), dtype=np.int64) for row in range(len(catalogue))
        ]
        self._rows_of = _inverted(self._phrases_of, len(lexicon))

    async def write(self, query: str) -> KeywordChain:
        """See `KeywordWriter.write`; never fails."""
        return await asyncio.to_thread(self.compose, query, int(time.time() * 1_000))

    def compose(self, query: str, now_ms: int) -> KeywordChain:
        """The chain of a query, written at ``now_ms`` (wall time)."""
        words = tokens(query)
        corrected = [word if word in STOP_WORDS else self._speller.correct(word) or word for word in words]
        own = list(dict.fromkeys(match.phrase for match in self._lexicon.match(" ".join(corrected))))
        support = self.support(normalise(query), own)
        shares = self._shares(support)
        kept = [phrase for phrase in own if shares.get(phrase, 0.0) >= self.settings.keep_share]
        added = self._added(shares, kept, own)
        chosen = (kept + added)[: self.settings.most]
        phrases = [self._lexicon.phrases[phrase] for phrase in chosen]
        told = _tell(words, corrected, self._named(own), len(support.rows_R), self._named(added), self._named(chosen))
        return KeywordChain(
            version=self.version,
            query=normalise(query),
            keywords=tuple(phrase.text for phrase in phrases),
            types=tuple(phrase.type.value for phrase in phrases),
            chain=told,
            written_ms=now_ms,
        )

    def support(self, query_key: str, phrases: Sequence[int]) -> Support:
        """The items that hold most of the keywords, rare ones counting more, weighed by overlap and by CTR."""
        items = len(self._catalogue)
        score_N = np.zeros(items)
        for phrase in phrases:
            rows = self._rows_of[phrase]
            score_N[rows] += np.log1p(items / max(len(rows), 1))
        found = np.flatnonzero(score_N)
        rows_R = found[np.argsort(-score_N[found], kind="stable")[: self.settings.support_items]]
        weight_R = score_N[rows_R] ** 2
        if self.clicks is not None and len(rows_R):
            weight_R = weight_R * self.clicks.ctr(query_key, [self._catalogue.items[row] for row in rows_R]).mean_N
        return Support(rows_R, weight_R / max(float(weight_R.sum()), 1e-300))

    def _shares(self, support: Support) -> dict[int, float]:
        """Per phrase: the weighted share of the supporting items that hold it."""
        shares: dict[int, float] = {}
        for row, weight in zip(support.rows_R.tolist(), support.weight_R.tolist(), strict=True):
            for phrase in self._phrases_of[row].tolist():
                shares[phrase] = shares.get(phrase, 0.0) + weight
        return shares

    def _added(self, shares: dict[int, float], kept: Sequence[int], own: Sequence[int]) -> list[int]:
        """What the supporting items have in common beyond the query, best first."""
        if not kept:
            return []
        said = {word for phrase in own for word in self._lexicon.phrases[phrase].text.split()}
        total = len(self._catalogue)
        found = [
            (-share, phrase)
            for phrase, share in shares.items()
            if phrase not in own
            and share >= self.settings.add_share
            and share * total >= self.settings.add_lift * len(self._rows_of[phrase])
            and not said.issuperset(self._lexicon.phrases[phrase].text.split())
        ]
        return [phrase for _, phrase in sorted(found)]

    def _named(self, phrases: Sequence[int]) -> list[Phrase]:
        return [self._lexicon.phrases[phrase] for phrase in phrases]


def _item_phrases(catalogue: Catalogue, row: int, lexicon: Lexicon) -> list[int]:
    """Phrases of an item's title, brand, category and attributes."""
    texts = [catalogue.titles[row], catalogue.brands[row], catalogue.categories[row], *catalogue.attributes[row].values()]
    return sorted({match.phrase for text in texts for match in lexicon.match(text)})


def _inverted(phrases_of: Sequence[NDArray[np.int64]], phrases: int) -> list[NDArray[np.int64]]:
    """Per phrase the rows that hold it, ascending."""
    flat = np.concatenate(phrases_of) if phrases_of else np.zeros(0, dtype=np.int64)
    rows = np.repeat(np.arange(len(phrases_of)), [len(held) for held in phrases_of])
    order = np.argsort(flat, kind="stable")
    borders = np.searchsorted(flat[order], np.arange(1, phrases))
    return list(np.split(rows[order], borders)) if phrases else []


def _tell(
    words: Sequence[str],
    corrected: Sequence[str],
    own: Sequence[Phrase],
    items: int,
    added: Sequence[Phrase],
    chosen: Sequence[Phrase],
) -> str:
    """The reasoning, a sentence a step."""
    said = [f"The query is: {' '.join(words)}."]
    if list(words) != list(corrected):
        said.append(f"It means: {' '.join(corrected)}.")
    if not own:
        return " ".join([*said, "The catalogue knows none of these words, so there are no keywords."])
    said.append(f"It names {_listed(own)}.")
    said.append(f"{items} items of the catalogue stand behind this.")
    if dropped := [phrase for phrase in own if phrase not in chosen]:
        said.append(f"They do not support {_listed(dropped)}.")
    if shown := [phrase for phrase in added if phrase in chosen]:
        said.append(f"What they share is {_listed(shown)}.")
    said.append(f"Keywords: {', '.join(phrase.text for phrase in chosen)}." if chosen else "No keyword is left.")
    return " ".join(said)


def _listed(phrases: Sequence[Phrase]) -> str:
    return ", ".join(f"{phrase.type.value} {phrase.text}" for phrase in phrases)
