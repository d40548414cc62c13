"""A mapped trie is the trie that was saved, and an altered file is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import Corrupt, Incompatible, Unavailable
from schemas.store import Store
from trainers.identifiers.trie import Trie
from trainers.identifiers.trie_file import open_trie, save, shared

SIZES = (8, 16, 300)


def trie_of(seed: int, items: int = 400) -> Trie:
    rng = np.random.default_rng(seed)
    return Trie.build(np.stack([rng.integers(0, k, items) for k in SIZES], axis=1), SIZES)


def test_what_is_mapped_is_what_was_saved(tmp_path: Path) -> None:
    """Every array, also of a trie with changes and of an empty one; and the mapped trie takes changes of its own."""
    changed = trie_of(1).without([3, 4, 5]).extended([[1, 2, 3]])
    for n, trie in enumerate([trie_of(1), changed, Trie.build(np.zeros((0, 3), int), SIZES)]):
        save(trie, tmp_path / f"{n}.trie", source="v1")
        mapped = open_trie(tmp_path / f"{n}.trie", "v1")
        built = Trie.build(trie.sids_NL, SIZES)
        assert np.array_equal(mapped.sids_NL, trie.sids_NL)
        for name in ("starts", "codes", "crowded", "bitmaps"):
            for ours, theirs in zip(getattr(mapped.flat, name), getattr(built.flat, name), strict=True):
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        more = mapped.extended([[7, 15, 299]])
        assert more.contains([[7, 15, 299]]).all()
        assert np.array_equal(open_trie(tmp_path / f"{n}.trie").sids_NL, trie.sids_NL)


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    """A bit anywhere, a missing end, another magic, version or source: each is named, nothing is read past it."""
    path = tmp_path / "a.trie"
    save(trie_of(2), path, source="v1")
    good = path.read_bytes()
    for at in range(0, len(good), 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        with pytest.raises((Corrupt, Incompatible), match=r"a\.trie"):
            open_trie(path)
    for cut in (0, 5, 20, 100, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(Corrupt, match=r"a\.trie"):
            open_trie(path)
    path.write_bytes(good[:6] + b"\x09\x00" + good[8:])
    with pytest.raises(Incompatible, match="expected 1, found 9"):
        open_trie(path)
    path.write_bytes(good)
    with pytest.raises(Incompatible, match="expected 'v2', found 'v1'"):
        open_trie(path, "v2")
    with pytest.raises(Unavailable, match="no such file"):
        open_trie(tmp_path / "b.trie")


@pytest.mark.parametrize("url", ["{}", "memory://{}"], ids=["folder", "object store"])
def test_the_first_to_ask_writes_it_for_the_others(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once, lies in the store, and one that was altered there is not used."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    store, made = Store(url.format(tmp_path / "store")), list[Trie]()

    def make() -> Trie:
        made.append(trie_of(5))
        return made[-1]

    first, second = shared(store, "v1", make), shared(store, "v1", make)
    assert len(made) == 1 and np.array_equal(first.sids_NL, second.sids_NL)
    file = store.local_file("identifiers/v1/items.trie")
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(Corrupt, match=r"items\.trie .*body's digest"):
        shared(store, "v1", make)
