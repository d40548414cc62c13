"""What campaigns ask of requests and items. Letters: N items of the catalogue, P pairs of category and brand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import Catalogue

Bools = NDArray[np.bool_]


class Asked(NamedTuple):
    """The request's side: the normalised query, and what the shop said of its user."""

    query: str
    segment: str = ""
    market: str = ""


@dataclass(frozen=True)
class ItemFacts:
    """The items' side, columns [N]; names are numbered, so that a scope is a comparison of integers."""

    category_N: NDArray[np.int32]
    brand_N: NDArray[np.int32]
    margin_N: NDArray[np.float64]  #: part of the price, 0 to 1; 0 where it is not known
    available_from_N: NDArray[np.int64]
    categories: dict[str, int]
    brands: dict[str, int]

    @classmethod
    def of(cls, catalogue: Catalogue) -> ItemFacts:
        """The columns of a catalogue."""
        category_N, categories = _numbered(catalogue.categories)
        brand_N, brands = _numbered(catalogue.brands)
        margin_N = np.zeros(len(catalogue)) if catalogue.margins_N is None else catalogue.margins_N.astype(np.float64)
        return cls(category_N, brand_N, np.nan_to_num(margin_N), catalogue.available_from_N, categories, brands)

    def with_blank(self) -> ItemFacts:
        """The same with one row more, for whatever the catalogue does not know: of no category, brand or margin, and not new."""
        return ItemFacts(
            category_N=np.append(self.category_N, np.int32(-1)),
            brand_N=np.append(self.brand_N, np.int32(-1)),
            margin_N=np.append(self.margin_N, 0.0),
            available_from_N=np.append(self.available_from_N, np.int64(0)),
            categories=self.categories,
            brands=self.brands,
        )

    def among(self, categories: tuple[str, ...], brands: tuple[str, ...]) -> Bools:
        """bool [N]: items of one of these categories and one of these brands; an empty tuple does not limit."""
        mask_N: Bools = self.pairs_among(categories, brands)[self.pair_N]
        return mask_N

    def pairs_among(self, categories: tuple[str, ...], brands: tuple[str, ...]) -> Bools:
        """`among` over the pairs [P]."""
        mask_P = np.ones(len(self._pairs_P2), dtype=np.bool_)
        for names, numbers, column_P in zip(
            (categories, brands), (self.categories, self.brands), self._pairs_P2.T, strict=True
        ):
            if names:
                mask_P &= np.isin(column_P, [numbers[name] for name in names if name in numbers])
        return mask_P

    @cached_property
    def pair_N(self) -> NDArray[np.int64]:
        """Number of each item's pair of category and brand: scopes tell no more apart, and pairs are few."""
        return np.unique(self._both_N2, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def _pairs_P2(self) -> NDArray[np.int32]:
        return np.unique(self._both_N2, axis=0)

    @property
    def _both_N2(self) -> NDArray[np.int32]:
        return np.stack([self.category_N, self.brand_N], axis=1)


def _numbered(names: tuple[str, ...]) -> tuple[NDArray[np.int32], dict[str, int]]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int32), numbers
