"""Targets of a page view: the identifiers of what was ordered and clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from schemas.examples import TrainingExample
from trainers.identifiers.trie import ABSENT


class Targets(NamedTuple):
    """T is the most targets of any view, at least 1; ``has_BT`` is False on padding."""

    sids_BTL: Tensor  #: int64
    has_BT: Tensor  #: bool

    @property
    def first_BL(self) -> Tensor:
        """The first target of each view; zeros where there is none."""
        return self.sids_BTL[:, 0]

    def rows(self, rows: Sequence[int]) -> Targets:
        """Those of the views at these places."""
        at = list(rows)
        return Targets(self.sids_BTL[at], self.has_BT[at])

    @property
    def any_B(self) -> Tensor:
        """Whether a view has a target."""
        return self.has_BT[:, 0]


def targets_of(views: Sequence[TrainingExample], row: Mapping[str, int], sids_NL: ArrayLike) -> Targets:
    """Distinct identifiers of the ordered items, then of the clicked ones, each in order of position.

    An ordered item that was returned counts as clicked. Items without a row or an identifier are left out.
    """
    sids_NL = np.asarray(sids_NL)
    found: list[list[tuple[int, ...]]] = []
    for view in views:
        done = [item for item in view.items if (item.clicks or item.orders) and item.item in row]
        done = [item for item in done if sids_NL[row[item.item], 0] != ABSENT]
        done.sort(key=lambda item: (item.orders == 0, item.position))
        found.append(list(dict.fromkeys(tuple(int(code) for code in sids_NL[row[item.item]]) for item in done)))
    width = max(1, *map(len, found)) if found else 1
    sids_BTL = torch.zeros(len(views), width, sids_NL.shape[1], dtype=torch.int64)
    has_BT = torch.zeros(len(views), width, dtype=torch.bool)
    for b, sids in enumerate(found):
        if sids:
            sids_BTL[b, : len(sids)] = torch.tensor(sids)
            has_BT[b, : len(sids)] = True
    return Targets(sids_BTL, has_BT)
