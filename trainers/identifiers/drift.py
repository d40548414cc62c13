"""Does the codebook still fit? New items against the ones it was fitted for, and a verdict by stated bounds.

Every figure of the new items stands beside what it would be had nothing drifted, so that a bound is a ratio: the error
beside that of items which the fit did not see (of those that it saw, the error is too small), the share in rare cells beside the share of fitted items that would be in one had they come later (leave one out), the
codes in use beside those that equally many fitted items use (rarefaction). Letters: N fitted items, M new ones, L levels.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trainers.identifiers.build import Identifiers
from trainers.identifiers.points import Points
from trainers.identifiers.sids import pack

#: A cell is a prefix of this many codes; it is rare with fewer than RARE fitted items in it.
CELL, RARE = 2, 3


class DriftBounds(BaseModel):
    """Beyond one of these a rebuild is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_new: int = Field(default=500, ge=1, description="new items below which nothing is said")
    error_ratio: float = Field(
        default=1.15, ge=1, le=100, description="mean squared error of new items, as a multiple of what is expected"
    )
    rare_ratio: float = Field(
        default=1.5, ge=1, le=1e6, description="share of new items in rare cells, as a multiple of what is expected of them"
    )
    use_ratio: float = Field(
        default=0.8, gt=0, le=1, description="least codes of a level in use by new items, as a share of what is expected"
    )
    growth: float = Field(default=1.0, gt=0, le=1e6, description="new items, as a multiple of the fitted ones")


class Drift(msgspec.Struct, frozen=True):
    """Errors are mean squared distances between embedding and decoded identifier; ``use`` is codes in use per level."""

    fitted: int
    new: int
    error_expected: float
    error_new: float
    rare_expected: float
    rare_new: float
    use_expected: tuple[float, ...]
    use_new: tuple[int, ...]
    reasons: tuple[str, ...]  #: bounds that are passed
    judged: bool  #: whether there are enough new items to judge by

    @property
    def rebuild_due(self) -> bool:
        """The verdict."""
        return bool(self.reasons)


def drift(
    identifiers: Identifiers, new_sids_ML: NDArray[np.integer], new_emb_MD: Points, bounds: DriftBounds | None = None
) -> Drift:
    """Compare M new items with those that the codebook was fitted for.

    Args:
        new_emb_MD: enhanced embeddings of the new items.
        bounds: defaults if None.
    """
    bounds = bounds or DriftBounds()
    fitted_NL = identifiers.sids_NL[identifiers.known_N]
    count = len(new_sids_ML)
    errors_M = identifiers.codebook.error(new_emb_MD, np.asarray(new_sids_ML, dtype=np.int32))
    rare_expected, rare_new = _rare(fitted_NL, new_sids_ML, identifiers.level_sizes)
    sizes = identifiers.level_sizes
    expected = tuple(_distinct_expected(fitted_NL[:, level], size, count) for level, size in enumerate(sizes))
    found = Drift(
        fitted=len(fitted_NL),
        new=count,
        error_expected=identifiers.quality.error_unseen or identifiers.quality.error,
        error_new=float(errors_M.mean()) if count else 0.0,
        rare_expected=rare_expected,
        rare_new=rare_new,
        use_expected=expected,
        use_new=tuple(len(np.unique(new_sids_ML[:, level])) for level in range(len(sizes))),
        reasons=(),
        judged=count >= bounds.min_new,
    )
    return msgspec.structs.replace(found, reasons=_reasons(found, bounds)) if found.judged else found


def _reasons(found: Drift, bounds: DriftBounds) -> tuple[str, ...]:
    said = []
    ratio = found.error_new / found.error_expected if found.error_expected > 0 else 1.0
    if ratio > bounds.error_ratio:
        said.append(f"the error of new items is {ratio:.2f} times what is expected, bound {bounds.error_ratio:g}")
    if found.rare_new > bounds.rare_ratio * found.rare_expected:
        times = f"{found.rare_new:.1%} of new items are in rare cells, {found.rare_expected:.1%} expected"
        said.append(f"{times}, bound {bounds.rare_ratio:g} times as many")
    for level, (used, expected) in enumerate(zip(found.use_new, found.use_expected, strict=True), start=1):
        if used < bounds.use_ratio * expected:
            said.append(
                f"new items use {used} codes of level {level}, {expected:.0f} expected, bound {bounds.use_ratio:.0%}"
            )
    if found.new > bounds.growth * found.fitted:
        said.append(f"{found.new} items are new to {found.fitted} fitted ones, bound {bounds.growth:g} times as many")
    return tuple(said)


def _rare(fitted_NL: NDArray[np.integer], new_ML: NDArray[np.integer], level_sizes: tuple[int, ...]) -> tuple[float, float]:
    """Shares in cells with fewer than `RARE` fitted items: of fitted items, each left out in its turn, and of new items."""
    cells_N = np.sort(pack(fitted_NL[:, :CELL], level_sizes[:CELL]))

    def members(cells: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(cells_N, cells, "right") - np.searchsorted(cells_N, cells, "left")

    new_M = members(pack(new_ML[:, :CELL], level_sizes[:CELL]))
    return float((members(cells_N) - 1 < RARE).mean()), float((new_M < RARE).mean()) if len(new_M) else 0.0


def _distinct_expected(codes_N: NDArray[np.integer], size: int, draws: int) -> float:
    """Distinct codes among ``draws`` draws of a fitted item."""
    share_K = np.bincount(codes_N, minlength=size) / len(codes_N)
    return float((1 - (1 - share_K) ** draws).sum())
