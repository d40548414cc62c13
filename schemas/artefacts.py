"""Which versions of the immutable artefacts a run uses: one small file in the store, ``artefacts.json``."""

from __future__ import annotations

import msgspec

from schemas.errors import Corrupt
from schemas.store import Store

PATH = "artefacts.json"


class Artefacts(msgspec.Struct, frozen=True):
    """Versions in force when the run started. An empty string: not made yet."""

    catalogue: str = ""  #: sha256 of catalogue/items.parquet
    identifiers: str = ""  #: folder identifiers/<version>
    relevance: str = ""  #: folder relevance/<version>
    frozen: str = ""  #: checkpoint of the warm start, checkpoints/<id>
    v: int = 1

    def save(self, store: Store) -> None:
        """Write into the store, replacing what was there."""
        store.write(PATH, msgspec.json.encode(self))

    @classmethod
    def load(cls, store: Store) -> Artefacts:
        """Read from the store.

        Raises:
            Corrupt: the file does not have this form.
        """
        try:
            return msgspec.json.decode(store.read(PATH), type=cls)
        except msgspec.DecodeError as error:
            raise Corrupt(
                f"{store.url}/{PATH}", str(error), "run `headrace demo` or `headrace up` on a new folder"
            ) from error
