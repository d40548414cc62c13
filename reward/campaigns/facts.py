"""What campaigns ask of requests and items. Letters: N items of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
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

    def among(self, categories: tuple[str, ...], brands: tuple[str, ...]) -> Bools:
        """bool [N]: items of one of these categories and one of these brands; an empty tuple does not limit."""
        mask_N = np.ones(len(self.category_N), dtype=np.bool_)
        for names, numbers, column_N in (
            (categories, self.categories, self.category_N),
            (brands, self.brands, self.brand_N),
        ):
            if names:
                mask_N &= np.isin(column_N, [numbers[name] for name in names if name in numbers])
        return mask_N


def _numbered(names: tuple[str, ...]) -> tuple[NDArray[np.int32], dict[str, int]]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int32), numbers
