"""A catalogue in a file of its own: in the form of a folder's items or of a store's, and checked as those of a folder are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.adapters.tables import read_catalogue
from headrace.identifier_data import open_source
from headrace.settings import load_settings
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from schemas.store import Store

GOOD = {"item_id": ["a", "b"], "title": ["red lamp", "saw"], "category": ["light", "tool"]}


def test_both_forms_are_read(tmp_path: Path) -> None:
    """Of a store's nothing is lost; of a folder's table two columns are enough, and ids may be numbers."""
    store = Store(str(tmp_path))
    kept = Catalogue(
        ("a", "b"), ("red lamp", "saw"), ("light", "tool"), ("x", ""), np.array([1, 2], np.float32), np.array([0, 7]),
        ({"colour": "red"}, {}), np.array([0.1, 0.2], np.float32), np.array([True, False]),
    )  # fmt: skip
    kept.save(store, "kept.parquet")
    loaded, again = read_catalogue(tmp_path / "kept.parquet"), Catalogue.load(store, "kept.parquet")
    for name in Catalogue.__dataclass_fields__:
        assert np.array_equal(getattr(loaded, name), getattr(again, name)), name
    pq.write_table(pa.table({"item_id": [5, 6], "title": ["red lamp", "saw"]}), tmp_path / "own.parquet")
    assert open_source(str(tmp_path / "own.parquet"), load_settings(), 0, 1).catalogue.items == ("5", "6")


@pytest.mark.parametrize(
    ("change", "row", "field", "said"),
    [
        ({"item_id": ["a", "a"]}, 2, "item_id", "an id that no earlier row has"),
        ({"item_id": ["a", None]}, 2, "item_id", "a value of kind id"),
        ({"item_id": ["a", "b,c"]}, 2, "item_id", "without a comma"),
        ({"item_id": ["a", " "]}, 2, "item_id", "not only space"),
        ({"item_id": ["a", "b" * 129]}, 2, "item_id", "1 to 128 characters"),
        ({"title": ["a", None]}, 2, "title", "a value of kind text"),
        ({"category": [None, "a"]}, 1, "category", "a value of kind text"),
        ({"title": [1, 2]}, None, "title", "a column of kind text"),
        ({"attributes": ["{}", "{}"]}, None, "attributes", "a column of kind texts"),
    ],
)
def test_what_is_not_as_documented_is_named_by_row_and_field(
    tmp_path: Path, change: dict, row: int | None, field: str, said: str
) -> None:
    file = tmp_path / "mine.parquet"
    pq.write_table(pa.table(GOOD | change), file)
    with pytest.raises(InvalidData, match=said) as caught:
        read_catalogue(file)
    assert (caught.value.file, caught.value.row, caught.value.field) == (str(file), row, field)


def test_the_first_missing_column_is_named_and_what_is_no_parquet_file(tmp_path: Path) -> None:
    """The same one each time, in the order of the documentation; a file cut short, a text that is none."""
    file = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"brand": ["x"]}), file)
    with pytest.raises(InvalidData, match="'item_id' is 'missing'"):
        read_catalogue(file)
    pq.write_table(pa.table(GOOD), file)
    whole = file.read_bytes()
    titles = pa.array([b"red lamp", b"\xff saw"]).cast(pa.string(), safe=False)
    pq.write_table(pa.table(GOOD | {"title": titles}), tmp_path / "bytes.parquet")
    for damaged in (b"item_id,title\na,lamp\n", b"", whole[: len(whole) // 2], (tmp_path / "bytes.parquet").read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(InvalidData, match="a parquet file"):
            read_catalogue(file)
