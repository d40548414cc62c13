"""A catalogue after some of its titles changed and new items came."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.catalogue import Catalogue


def grown(catalogue: Catalogue, titles: Mapping[int, str], new: Sequence[str]) -> Catalogue:
    """With other titles in some rows, and items behind the last one that nothing is known of but their titles."""
    count = len(new)
    return dataclasses.replace(
        catalogue,
        items=(*catalogue.items, *(f"new{n}" for n in range(count))),
        titles=(*(titles.get(row, title) for row, title in enumerate(catalogue.titles)), *new),
        categories=catalogue.categories + ("",) * count,
        brands=catalogue.brands + ("",) * count,
        prices_N=np.append(catalogue.prices_N, np.zeros(count, np.float32)),
        available_from_N=np.append(catalogue.available_from_N, np.zeros(count, np.int64)),
        attributes=catalogue.attributes + ({},) * count,
    )
