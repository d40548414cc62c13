"""Arrays from the bytes of an npz file: all of them whole, or an error that names the file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Corrupt

#: What numpy raises for a file that is empty, cut short, altered, or none of its own.
_UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, ValueError, TypeError, NotImplementedError)


def read_arrays(data: bytes, path: str, names: Iterable[str], remedy: str) -> dict[str, NDArray[Any]]:
    """By name; ``names`` have to be among them.

    Raises:
        Corrupt: the bytes of ``path`` are no npz file, not whole, or lack an array.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
    except _UNREADABLE as error:
        raise Corrupt(path, str(error), remedy) from error
    for name in names:
        if name not in arrays:
            raise Corrupt(path, f"it lacks the array {name}", remedy)
    return arrays
