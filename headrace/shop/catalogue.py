"""The items of the simulated shop: attributes drawn column by column, titles composed of them.

A title does not say everything: now and then an attribute is left out, and the type goes by one of its other names.
The numbers behind the attributes stay in `Columns`; relevance is decided by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.shop.draws import stream
from headrace.shop.vocabulary import CATEGORIES, COLOURS, SERIES, SIZES, ProductType
from schemas.catalogue import Catalogue

#: Every product type, with the number of its category.
TYPES: tuple[tuple[int, ProductType], ...] = tuple((c, t) for c, cat in enumerate(CATEGORIES) for t in cat.types)
TYPE_CATEGORY = np.array([c for c, _ in TYPES], dtype=np.int16)

#: Lowest and highest margin of an item, part of its price.
MARGINS = (0.05, 0.6)

#: Attributes that a query can ask for, by their name in the catalogue.
ASKED = ("brand", "colour", "material", "style", "audience", "specification")


@dataclass(frozen=True)
class Columns:
    """Attribute values of N items as numbers, each [N]: an index into the words of the item's category."""

    type_N: NDArray[np.int16]
    brand_N: NDArray[np.int16]
    colour_N: NDArray[np.int16]
    material_N: NDArray[np.int16]
    style_N: NDArray[np.int16]
    audience_N: NDArray[np.int16]
    specification_N: NDArray[np.int16]
    price_z_N: NDArray[np.float32]  #: log price over the type's median, in standard deviations

    def asked(self, attribute: str) -> NDArray[np.int16]:
        """The column of one of `ASKED`."""
        column: NDArray[np.int16] = getattr(self, f"{attribute}_N")
        return column

    @property
    def category_N(self) -> NDArray[np.int16]:
        """Number of each item's category."""
        return TYPE_CATEGORY[self.type_N]


def words(type_: int, attribute: str) -> tuple[str, ...]:
    """What the values of an attribute are called for a type."""
    category = CATEGORIES[int(TYPE_CATEGORY[type_])]
    if attribute == "specification":
        return SIZES[TYPES[type_][1].sizes]
    by_name = {
        "brand": category.brands,
        "colour": COLOURS,
        "material": category.materials,
        "style": category.styles,
        "audience": category.audiences,
    }
    return by_name[attribute]


def build_columns(n: int, seed: int) -> Columns:
    """Draw the attributes of ``n`` items. Types, and brands within a category, are unequally common."""
    rng = stream(seed, "catalogue")
    share_T = (rng.permutation(len(TYPES)) + 3.0) ** -0.3
    type_N = rng.choice(len(TYPES), n, p=share_T / share_T.sum()).astype(np.int16)

    def column(attribute: str, power: float) -> NDArray[np.int16]:
        out_N = np.zeros(n, dtype=np.int16)
        u_N = rng.random(n)
        for t in range(len(TYPES)):
            mine_N = type_N == t
            share_V = np.arange(1.0, len(words(t, attribute)) + 1) ** -power
            edges_V = np.cumsum(share_V / share_V.sum())[:-1]
            out_N[mine_N] = np.searchsorted(edges_V, u_N[mine_N], side="right")
        return out_N

    drawn = {name: column(name, 0.5 if name in ("brand", "colour") else 0.2) for name in ASKED}
    return Columns(
        type_N=type_N, price_z_N=rng.normal(0, 1, n).astype(np.float32), **{f"{k}_N": v for k, v in drawn.items()}
    )


def build_catalogue(columns: Columns, available_from_N: NDArray[np.int64], seed: int) -> Catalogue:
    """Give the items ids, titles, prices and named attributes."""
    n = len(columns.type_N)
    rng = stream(seed, "titles")
    median_N = np.array([t.price for _, t in TYPES])[columns.type_N]
    prices_N = np.round(median_N * np.exp(0.4 * columns.price_z_N), 2).astype(np.float32)
    draws_NW = rng.random((n, 6))
    named = [_attributes(columns, row) for row in range(n)]
    return Catalogue(
        items=tuple(f"i{row:07d}" for row in range(n)),
        titles=tuple(_title(int(columns.type_N[row]), named[row], draws_NW[row]) for row in range(n)),
        categories=tuple(CATEGORIES[c].name for c in columns.category_N.tolist()),
        brands=tuple(attributes["brand"] for attributes in named),
        prices_N=prices_N,
        available_from_N=available_from_N,
        margins_N=stream(seed, "margins").uniform(*MARGINS, n).astype(np.float32),
        attributes=tuple(
            attributes | {"price": _price_word(z)} for attributes, z in zip(named, columns.price_z_N.tolist(), strict=True)
        ),
    )


def _attributes(columns: Columns, row: int) -> dict[str, str]:
    type_ = int(columns.type_N[row])
    named = {"entity": TYPES[type_][1].names[0]}
    for attribute in ASKED:
        word = words(type_, attribute)[int(columns.asked(attribute)[row])]
        if word:
            named[attribute] = word
    return named


def _title(type_: int, named: dict[str, str], u_W: NDArray[np.float64]) -> str:
    names = TYPES[type_][1].names
    name = names[0] if u_W[0] < 0.7 else names[1 + int((u_W[0] - 0.7) / 0.3 * (len(names) - 1))]
    series = f"{SERIES[int(u_W[1] * len(SERIES))]} {1 + int(u_W[2] * 97)}"
    said = {a: named[a] for a, u in zip(("style", "colour", "material"), u_W[3:], strict=True) if u > 0.1}
    parts = [named["brand"], series, said.get("style", ""), said.get("colour", ""), said.get("material", ""), name]
    head = " ".join(part for part in parts if part)
    size = named.get("specification", "")
    return f"{head} for {named['audience']}" + (f", {size}" if size else "")


def _price_word(z: float) -> str:
    return "budget" if z < -0.7 else "premium" if z > 0.7 else "mid range"
