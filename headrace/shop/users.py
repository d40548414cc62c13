"""People: favourite categories, brands and colours, a price level, and how often they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.shop.catalogue import Columns
from headrace.shop.draws import stream
from headrace.shop.vocabulary import CATEGORIES, COLOURS
from schemas.errors import InvalidValue

BRAND_BONUS = 0.5  #: log-odds of a click for a favourite brand in a favourite category
COLOUR_BONUS = 0.3  #: ... for a favourite colour
PRICE_PENALTY = 0.2  #: ... per standard deviation of log price away from the user's level

#: Every brand list of the vocabulary has this many names; a test holds it.
BRANDS = 8

#: What the shop says of its users; campaigns can ask for it.
SEGMENTS = ("new", "regular", "loyal")
MARKETS = ("north", "south")


@dataclass(frozen=True)
class Users:
    """U people: favourites [U, 3] categories, [U, 3, 2] brands of each, [U, 2] colours; price level and activity [U];
    numbers of `SEGMENTS` and `MARKETS` [U], which no taste depends on."""

    categories_U3: NDArray[np.int16]
    brands_U32: NDArray[np.int16]
    colours_U2: NDArray[np.int16]
    price_U: NDArray[np.float32]
    activity_U: NDArray[np.float64]
    segment_U: NDArray[np.int64]
    market_U: NDArray[np.int64]

    def number(self, user: str) -> int:
        """Row of a user id.

        Raises:
            InvalidValue: not an id of this shop.
        """
        number = int(user[1:]) if user[:1] == "u" and user[1:].isdecimal() else -1
        if not 0 <= number < len(self.price_U):
            raise InvalidValue("user", user, f"u0 to u{len(self.price_U) - 1}", "take users from the world's requests")
        return number

    def taste(self, user: int, columns: Columns, rows_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-odds [N] that the user's taste adds to a click on each item."""
        category_N = columns.category_N[rows_N]
        bonus_N = -PRICE_PENALTY * np.abs(columns.price_z_N[rows_N].astype(np.float64) - self.price_U[user])
        bonus_N += COLOUR_BONUS * np.isin(columns.colour_N[rows_N], self.colours_U2[user])
        for slot in range(3):
            mine_N = category_N == self.categories_U3[user, slot]
            bonus_N += BRAND_BONUS * (mine_N & np.isin(columns.brand_N[rows_N], self.brands_U32[user, slot]))
        return np.asarray(bonus_N)

    def likes_category(self, user: int, columns: Columns, rows_N: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each item [N] is of one of the user's favourite categories."""
        return np.isin(columns.category_N[rows_N], self.categories_U3[user])


def build_users(count: int, seed: int) -> Users:
    """Draw ``count`` people; a few of them do most of the searching (Pareto)."""
    rng = stream(seed, "users")
    categories_UC = rng.random((count, len(CATEGORIES))).argsort(axis=1)
    brands_U3V = rng.random((count, 3, BRANDS)).argsort(axis=2)
    activity_U = rng.pareto(1.5, count) + 0.3
    groups = stream(seed, "users", "groups")
    return Users(
        categories_U3=categories_UC[:, :3].astype(np.int16),
        brands_U32=brands_U3V[:, :, :2].astype(np.int16),
        colours_U2=rng.integers(0, len(COLOURS), (count, 2)).astype(np.int16),
        price_U=rng.normal(0, 0.8, count).astype(np.float32),
        activity_U=activity_U / activity_U.sum(),
        segment_U=groups.integers(0, len(SEGMENTS), count),
        market_U=groups.integers(0, len(MARKETS), count),
    )
