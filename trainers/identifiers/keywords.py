"""Keyword enhancement: an embedding moves towards the mean of its text's keywords (KHQE)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reward.lexicon import Lexicon
from schemas.errors import InvalidValue
from trainers.identifiers.points import Points, Rows, blocks, rows_of

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

        Unit rows in, unit rows out. With ``share`` 1/2 both count the same, as in the paper.
        """
        emb_ND = np.asarray(emb_ND, dtype=np.float32)
        if len(texts) != len(emb_ND):
            raise InvalidValue("texts to enhance", len(texts), f"{len(emb_ND)}, one an embedding", "pass both in one order")
        return self.move(phrase_matrix(self.lexicon, texts), emb_ND)

    def move(self, holds_NK: sparse.csr_array, emb_ND: FloatArray) -> FloatArray:
        """`enhance` for texts whose phrases were found before: sparse [N, K] of ones."""
        counts_N = np.diff(holds_NK.indptr)
        mean_ND = (holds_NK @ self.phrase_emb_KD) / np.maximum(counts_N, 1)[:, None]
        share_N1 = np.where(counts_N > 0, self.share, 0)[:, None]
        return unit_rows((1 - share_N1) * emb_ND + share_N1 * mean_ND)


@dataclass(frozen=True, eq=False)
class Enhanced:
    """Points: the enhanced rows of N texts, each made when it is asked for, so that the embeddings may lie in a file."""

    enhancer: Enhancer
    holds_NK: sparse.csr_array  #: phrases of every text, from `phrase_matrix`
    emb_ND: Points

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return self.emb_ND.shape

    def __getitem__(self, rows: Rows) -> FloatArray:
        """The rows of a slice or of an index array, [n, D]."""
        return self.enhancer.move(self.holds_NK[rows], rows_of(self.emb_ND, rows))


def phrase_embeddings(
    lexicon: Lexicon, holds_NK: sparse.csr_array, emb_ND: Points, encode: Encode | None = None
) -> FloatArray:
    """A unit row for each phrase, [K, D].

    With ``encode`` it is the sentence model's own; without, the direction of the mean of the texts that hold the phrase
    (``holds_NK``, from `phrase_matrix`), which needs no model. A phrase that no text holds is a zero row then, and moves
    nothing.
    """
    if encode is not None:
        return unit_rows(encode([phrase.text for phrase in lexicon.phrases]))
    return unit_rows(phrase_sums(holds_NK, emb_ND))


def phrase_sums(holds_NK: sparse.csr_array, emb_ND: Points) -> FloatArray:
    """For each phrase the sum of the embeddings of the texts that hold it, [K, D], added up in row order."""
    out_KD = np.zeros((holds_NK.shape[1], emb_ND.shape[1]), dtype=np.float64)
    for at in blocks(emb_ND.shape[0]):
        out_KD += holds_NK[at].T @ rows_of(emb_ND, at).astype(np.float64)
    return out_KD.astype(np.float32)


def phrase_matrix(lexicon: Lexicon, texts: Sequence[str]) -> sparse.csr_array:
    """1 where text n holds phrase k, each once: sparse [N, K]."""
    start, columns = array("q", [0]), array("i")
    for text in texts:
        columns.extend(sorted({match.phrase for match in lexicon.match(text)}))
        start.append(len(columns))
    ones = np.ones(len(columns), dtype=np.float32)
    parts = ones, np.asarray(columns, dtype=np.int32), np.asarray(start, dtype=np.int64)
    return sparse.csr_array(parts, shape=(len(texts), len(lexicon)))


def unit_rows(emb_ND: NDArray[np.floating[Any]]) -> FloatArray:
    """Rows of length 1; zero rows stay zero."""
    norm_N = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return np.asarray(emb_ND / np.where(norm_N > 0, norm_N, 1), dtype=np.float32)
