"""Who gets which identifier: its nearest code, or the next nearest free one.

Two items may share an identifier only if the settings allow it and their text is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.codebook import Codebook, offsets_to_fine
from trainers.identifiers.kmeans import distances, one_thread
from trainers.identifiers.settings import RESIDUAL_LEVELS

Sid = tuple[int, ...]


class Assigner:
    """Identifiers in use and the text that holds each. Assigning never touches an identifier given before.

    ``share``: whether equal texts share; an empty text never does.
    """

    def __init__(self, codebook: Codebook, share: bool = False) -> None:
        self.codebook, self.share = codebook, share
        self.moved = 0  #: items that did not get their nearest code, because another item held it
        self._text_of: dict[Sid, str] = {}

    @classmethod
    def of(cls, codebook: Codebook, sids_NL: NDArray[np.integer], texts: Sequence[str], share: bool = False) -> Assigner:
        """An assigner that knows N items already."""
        assigner = cls(codebook, share)
        assigner._text_of = {tuple(sid): text for sid, text in zip(sids_NL.tolist(), texts, strict=True)}
        return assigner

    def assign(self, emb_D: NDArray[np.float32], text: str, codes: Sid | None = None) -> Sid:
        """The identifier of a new item, remembered as taken.

        Args:
            emb_D: the item's (enhanced) embedding.
            text: decides who may share.
            codes: its nearest codes, if known; else they are computed.

        Raises:
            InvalidValue: every identifier is taken.
        """
        wanted = codes or tuple(self.codebook.encode(emb_D[None, :])[0].tolist())
        if not self._free(wanted, text):
            self.moved += 1
            wanted = next((sid for sid in nearest_sids(self.codebook, emb_D, wanted) if self._free(sid, text)), ())
            if not wanted:
                taken = f"{len(self._text_of)} of its prefix"
                raise InvalidValue("free identifiers", taken, "at least one", "rebuild with larger level sizes")
        self._text_of[wanted] = text
        return wanted

    def assign_all(
        self, emb_ND: NDArray[np.float32], texts: Sequence[str], codes_NL: NDArray[np.integer]
    ) -> NDArray[np.int32]:
        """Identifiers [N, L] of N items in row order: the first comer keeps its nearest code."""
        sids = [
            self.assign(emb_D, text, tuple(codes))
            for emb_D, text, codes in zip(emb_ND, texts, codes_NL.tolist(), strict=True)
        ]
        return np.array(sids, dtype=np.int32).reshape(-1, len(self.codebook.level_sizes))

    def _free(self, sid: Sid, text: str) -> bool:
        holder = self._text_of.get(sid)
        return holder is None or (self.share and text != "" and holder == text)


def nearest_sids(codebook: Codebook, emb_D: NDArray[np.float32], codes: Sid) -> Iterator[Sid]:
    """Identifiers from the nearest to the farthest of ``codes``' own neighbourhood.

    First every last code, by distance; then every pair of the two fine codes; then the same pairs below every other
    code of level 3, nearest first. The first two levels stay: they carry the meaning.
    """
    row = np.array([codes])
    with one_thread():
        left_D = codebook.residual_after(emb_D[None, :], row, RESIDUAL_LEVELS)[0]
        first_K, last_K = offsets_to_fine(codebook, left_D)
        for code in np.argsort(last_K, kind="stable").tolist():
            yield (*codes[:-1], code)
        before_D = codebook.residual_after(emb_D[None, :], row, RESIDUAL_LEVELS - 1)
        thirds = np.argsort(distances(before_D, codebook.residual[-1])[0], kind="stable").tolist()
        thirds.remove(codes[RESIDUAL_LEVELS - 1])
    for third in (codes[RESIDUAL_LEVELS - 1], *thirds):
        with one_thread():
            first_K, last_K = offsets_to_fine(codebook, before_D[0] - codebook.residual[-1][third])
        pairs = np.argsort((first_K[:, None] + last_K[None, :]).ravel(), kind="stable")
        for pair in pairs.tolist():
            yield (*codes[: RESIDUAL_LEVELS - 1], third, *divmod(pair, len(last_K)))
