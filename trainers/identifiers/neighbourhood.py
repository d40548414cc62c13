"""What lies around a query in the tree of identifiers, for a person to judge.

Letters: N items, D width, L levels, K one level's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.identifiers.codebook import Codebook
from trainers.identifiers.settings import RESIDUAL_LEVELS

FloatArray = NDArray[np.float32]


class Cell(msgspec.Struct, frozen=True):
    """A prefix of codes, what it holds, and the cells below it that were opened, nearest to the query first."""

    codes: tuple[int, ...]
    items: int
    titles: tuple[str, ...]  #: of the items whose identifiers stand for the nearest to the query
    own: bool  #: whether the query's own identifier starts with these codes
    cells: tuple[Cell, ...] = ()


def neighbourhood(
    codebook: Codebook,
    query_D: FloatArray,
    sids_NL: NDArray[np.int32],
    titles: Sequence[str],
    breadth: int = 4,
    shown: int = 3,
) -> Cell:
    """The tree around a query: at each of the three residual levels the ``breadth`` nearest cells that hold items, and the
    query's own if that holds none; the nearest of them is opened further.

    Args:
        query_D: the query's enhanced embedding.
        sids_NL: identifiers of the items in the trie; ``titles`` are theirs.
        shown: titles of a cell.
    """
    own = tuple(codebook.encode(query_D[None, :])[0].tolist())
    error_N = ((codebook.decode(sids_NL) - query_D) ** 2).sum(axis=1)

    def cell(codes: tuple[int, ...], rows: NDArray[np.int64], left_D: FloatArray, opened: bool) -> Cell:
        near = rows[np.argsort(error_N[rows], kind="stable")[:shown]]
        told = tuple(titles[row] for row in near.tolist())
        mine = codes == own[: len(codes)]
        if not opened or len(codes) == RESIDUAL_LEVELS:
            return Cell(codes, len(rows), told, mine)
        return Cell(codes, len(rows), told, mine, below(codes, rows, left_D))

    def below(codes: tuple[int, ...], rows: NDArray[np.int64], left_D: FloatArray) -> tuple[Cell, ...]:
        level = len(codes)
        order, _ = codebook.residual_centroids[level].few(left_D[None, :], 0, codebook.level_sizes[level])
        held = set(sids_NL[rows, level].tolist())
        chosen = [code for code in order[0].tolist() if code in held][:breadth]
        nearest = chosen[0] if chosen else -1
        if codes == own[:level] and own[level] not in chosen:
            chosen.insert(0, own[level])
        return tuple(
            cell(
                (*codes, code),
                rows[sids_NL[rows, level] == code],
                left_D - codebook.residual[level][code],
                code == nearest,
            )
            for code in chosen
        )

    return cell((), np.arange(len(sids_NL)), query_D, True)
