"""A toy shop whose titles mean something without a sentence model: what several tests of identifiers build on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reward.text import tokens
from schemas.catalogue import Catalogue
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.identifiers.settings import IdentifierSettings

WIDTH = 16
NOUNS = ("chair", "table", "lamp", "rug", "sofa", "shelf")
COLOURS = ("black", "white", "red", "green")
BRANDS = ("kelda", "brisko", "solano")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """A bag of words, each word a fixed random direction; nouns weigh most."""
    out = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in tokens(text):
            seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
            out[row] += np.random.default_rng(seed).normal(size=WIDTH) * (3 if word in NOUNS else 1)
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)


def shop(n: int = 200, late: int = 0) -> Catalogue:
    """N different titles; the last ``late`` items appear at time 5."""
    random = np.random.default_rng(3)
    named = [(str(random.choice(BRANDS)), str(random.choice(COLOURS)), str(random.choice(NOUNS))) for _ in range(n)]
    return Catalogue(
        items=tuple(f"i{row}" for row in range(n)),
        titles=tuple(f"{brand} {colour} {noun} v{row}" for row, (brand, colour, noun) in enumerate(named)),
        categories=("home",) * n,
        brands=tuple(brand for brand, _, _ in named),
        prices_N=np.ones(n, dtype=np.float32),
        available_from_N=np.array([0] * (n - late) + [5] * late, dtype=np.int64),
        attributes=tuple({"colour": colour, "entity": noun} for _, colour, noun in named),
    )


def build(catalogue: Catalogue, seed: int = 1, share: bool = False) -> Identifiers:
    """Identifiers of a toy shop and two queries."""
    queries = ["red chair", "white lamp kelda"]
    settings = IdentifierSettings(share_equal_texts=share)
    return build_identifiers(catalogue, embed(catalogue.titles), queries, embed(queries), settings, seed=seed)
