"""Who gains and who loses: queries and categories by their share of the reward and of the places; places that change hands.

Letters: M pages, P shown items, L pages with a pool, K places, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reward.preview.pages import Floats, Ints, Pages
from reward.preview.results import Move, Moves, Places


def places(before_LK: Ints, after_LK: Ints) -> Places:
    """``*_LK``: candidates at the places under each book (`Pools.first`), -1 past a page's end."""
    there_LK = before_LK >= 0
    kept_LK = (before_LK[:, :, None] == after_LK[:, None, :]).any(axis=2) & there_LK
    return Places(
        pages=len(before_LK),
        changed=float((before_LK != after_LK).any(axis=1).mean()),
        top_changed=float((before_LK[:, 0] != after_LK[:, 0]).mean()),
        kept=float(kept_LK.sum() / there_LK.sum()),
    )


def moves_of(
    names: Sequence[str],
    group_P: Ints,
    pages: Pages,
    rewards: tuple[Floats, Floats],
    holders: tuple[Ints, Ints] | None = None,
) -> list[Move]:
    """A move for each of the G groups that is shown.

    Args:
        group_P: each shown item's group, 0 .. G - 1.
        rewards: of the shown items, before and after.
        holders: the groups of the items that hold the places, before and after, in any order.
    """
    count = len(names)
    items_G = np.bincount(group_P, minlength=count)
    pages_G = np.bincount(np.unique(np.stack([pages.page_P, group_P]), axis=1)[1], minlength=count)
    sums_2G = [np.bincount(group_P, reward_P, count) for reward_P in rewards]
    shares_2G = [sum_G / (sum_G.sum() or 1.0) for sum_G in sums_2G]
    held_2G = None if holders is None else [np.bincount(one, minlength=count) / max(len(one), 1) for one in holders]
    return [
        Move(
            name=names[g],
            pages=int(pages_G[g]),
            items=int(items_G[g]),
            before=float(sums_2G[0][g] / max(items_G[g], 1)),
            after=float(sums_2G[1][g] / max(items_G[g], 1)),
            share_before=float(shares_2G[0][g]),
            share_after=float(shares_2G[1][g]),
            places_before=None if held_2G is None else float(held_2G[0][g]),
            places_after=None if held_2G is None else float(held_2G[1][g]),
        )
        for g in np.flatnonzero(
            items_G > 0 if held_2G is None else (items_G > 0) | (held_2G[0] > 0) | (held_2G[1] > 0)
        ).tolist()
    ]


def largest(moves: Sequence[Move], by: Callable[[Move], float], count: int) -> Moves:
    """The ``count`` largest gains and losses; equal ones in the order of their names."""
    gaining = sorted((move for move in moves if by(move) > 0), key=lambda move: (-by(move), move.name))
    losing = sorted((move for move in moves if by(move) < 0), key=lambda move: (by(move), move.name))
    return Moves(tuple(gaining[:count]), tuple(losing[:count]))
