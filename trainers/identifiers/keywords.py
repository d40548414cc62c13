"""Keyword enhancement: an embedding moves towards the mean of its text's keywords (KHQE, EQUATIONS 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reward.lexicon import Lexicon
from schemas.errors import InvalidValue
from trainers.identifiers.kmeans import one_thread

FloatArray = NDArray[np.float32]

#: Texts to unit rows [N, D]; `reward.encoder.SentenceEncoder.encode` is one.
Encode = Callable[[Sequence[str]], FloatArray]


@dataclass(frozen=True, eq=False)
class Enhancer:
    """``phrase_emb_KD``: one unit row per phrase of the lexicon."""

    lexicon: Lexicon
    phrase_emb_KD: FloatArray
    share: float

    def enhance(self, texts: Sequence[str], emb_ND: FloatArray) -> FloatArray:
        """``normalise((1 - share) e + share mean(keyword embeddings))``, and ``normalise(e)`` without a match: [N, D].

        Unit rows in, unit rows out. With ``share`` 1/2 this is EQUATIONS 1.
        """
        emb_ND = np.asarray(emb_ND, dtype=np.float32)
        if len(texts) != len(emb_ND):
            raise InvalidValue("texts to enhance", len(texts), f"{len(emb_ND)}, one an embedding", "pass both in one order")
        holds_NK = phrase_matrix(self.lexicon, texts)
        counts_N = np.asarray(holds_NK.sum(axis=1)).ravel()
        with one_thread():
            mean_ND = (holds_NK @ self.phrase_emb_KD) / np.maximum(counts_N, 1)[:, None]
        matched_N = counts_N > 0
        out_ND = emb_ND.copy()
        out_ND[matched_N] = (1 - self.share) * emb_ND[matched_N] + self.share * mean_ND[matched_N]
        return unit_rows(out_ND)


def phrase_embeddings(
    lexicon: Lexicon, texts: Sequence[str], emb_ND: FloatArray, encode: Encode | None = None
) -> FloatArray:
    """A unit row for each phrase, [K, D].

    With ``encode`` it is the sentence model's own; without, the direction of the mean of the texts that hold the phrase,
    which needs no model. A phrase that no text holds is a zero row then, and moves nothing.
    """
    if encode is not None:
        return unit_rows(encode([phrase.text for phrase in lexicon.phrases]))
    holds_NK = phrase_matrix(lexicon, texts)
    return unit_rows(holds_NK.T @ np.asarray(emb_ND, dtype=np.float32))


def phrase_matrix(lexicon: Lexicon, texts: Sequence[str]) -> sparse.csr_array:
    """1 where text n holds phrase k, each once: sparse [N, K]."""
    start, columns = [0], []
    for text in texts:
        columns.extend(sorted({match.phrase for match in lexicon.match(text)}))
        start.append(len(columns))
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_array((ones, np.array(columns, dtype=np.int64), np.array(start)), shape=(len(texts), len(lexicon)))


def unit_rows(emb_ND: FloatArray) -> FloatArray:
    """Rows of length 1; zero rows stay zero."""
    norm_N = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return np.asarray(emb_ND / np.where(norm_N > 0, norm_N, 1), dtype=np.float32)
