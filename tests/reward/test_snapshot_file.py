"""The snapshot file: searched where it lies, opened without reading it, and refused where it is cut or altered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.counts import UNIT, Counts
from reward.keys import keys, pair_keys
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.snapshot_file import BLOCK, ROW, SnapshotFile, pack
from schemas.errors import Corrupt, Incompatible, Unavailable
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.store import Store

SETTINGS = PosteriorSettings()


class About(msgspec.Struct):
    name: str


def table(numbers: list[int]) -> np.ndarray:
    """Rows whose mean and n tell their key."""
    rows = np.zeros(len(numbers), ROW)
    rows["key"] = np.sort(np.array(numbers, np.uint64))
    rows["mean"], rows["n"] = rows["key"] % np.uint64(1009), rows["key"] % np.uint64(13)
    return rows


some_keys = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300), st.integers(2**64 - 300, 2**64 - 1))


@given(st.lists(some_keys, unique=True, max_size=300), st.lists(some_keys, max_size=20))
def test_it_finds_what_a_dictionary_finds(numbers: list[int], asked: list[int]) -> None:
    """Spread keys, and keys that all share their leading bits."""
    rows = table(numbers)
    slow = {int(row["key"]): (float(row["mean"]), float(row["n"])) for row in rows}
    file = SnapshotFile(pack(About("x"), {"pairs": rows, "none": table([])}))
    wanted = numbers + asked
    row_N, found_N = file.find("pairs", np.array(wanted, np.uint64))
    assert found_N.tolist() == [number in slow for number in wanted]
    told = zip(row_N["mean"].tolist(), row_N["n"].tolist(), strict=True)
    assert all(row == slow[number] for number, row in zip(wanted, told, strict=True) if number in slow)
    assert not file.find("none", np.array(wanted, np.uint64))[1].any()
    assert msgspec.json.decode(file.head.about, type=About) == About("x")


def large() -> bytes:
    """A snapshot of 20,000 pairs: some 25 blocks."""
    counts = Counts(CountDelta(f"q{n % 200}", f"i{n // 200}", 0, UNIT, n % 3 == 0, 0, 0, 1) for n in range(20_000))
    return PosteriorSnapshot.build(counts, 0, SETTINGS)


LARGE = large()


def test_only_the_blocks_that_are_touched_are_read() -> None:
    """Every block but those that the look-up of one pair needs is altered: it is answered, `verify` refuses the file."""
    whole = SnapshotFile(LARGE)
    key_1 = pair_keys(keys(["q7"]), keys(["i3"]))
    expected, _ = whole.find("pairs", key_1)
    touched = np.flatnonzero(whole._sound)
    assert 1 <= len(touched) <= 4 < len(whole._sound) / 4
    body = len(LARGE) - whole.head.body
    altered = bytearray(LARGE)
    for block in set(range(len(whole._sound))) - set(touched.tolist()):
        altered[body + block * BLOCK] ^= 1
    file = SnapshotFile(bytes(altered))
    assert file.find("pairs", key_1)[0].tolist() == expected.tolist()
    with pytest.raises(Corrupt, match=r"digest of block \d+ .* must be [0-9a-f]{16}\); use the one before it"):
        file.verify()


@given(st.integers(0, len(LARGE) - 1), st.integers(1, 255))
def test_any_altered_byte_is_found(at: int, by: int) -> None:
    altered = bytearray(LARGE)
    altered[at] ^= by
    with pytest.raises((Corrupt, Incompatible)):
        SnapshotFile(bytes(altered)).verify()


@given(st.integers(0, len(LARGE) - 1))
def test_any_cut_is_found_at_once(length: int) -> None:
    """The message names the bytes that are there and those that must be."""
    with pytest.raises(Corrupt, match=r"must (be|begin)|its head alone has"):
        SnapshotFile(LARGE[:length])


def test_a_longer_file_is_refused_too() -> None:
    with pytest.raises(Corrupt, match=f"{len(LARGE) + 1} bytes, but must be {len(LARGE)}"):
        SnapshotFile(LARGE + b"\0")


def test_a_file_of_an_older_version_names_both_and_the_remedy() -> None:
    with pytest.raises(Incompatible, match=r"expected 'HRPOST02', found 'HRPOST01'; .*headrace replay"):
        SnapshotFile(b"HRPOST01" + LARGE[8:])


def test_a_pointer_opens_its_own_file_and_no_other(tmp_path: Path) -> None:
    """Local: mapped where it lies. Remote: fetched into the cache once. Another snapshot in its place is refused."""
    store = Store(str(tmp_path))
    store.write("posteriors/1", LARGE)
    store.write("posteriors/2", PosteriorSnapshot.build(Counts(), 5, SETTINGS))
    store.write("posteriors/empty", b"")
    checksum = PosteriorSnapshot(LARGE).sha256
    pointer = SnapshotPointer(1, 0, "posteriors/1", checksum, 0, 20_000)
    assert PosteriorSnapshot.read(store, pointer).pairs == 20_000
    with pytest.raises(Corrupt, match=f"must be {checksum}"):
        PosteriorSnapshot.read(store, msgspec.structs.replace(pointer, path="posteriors/2"))
    with pytest.raises(Corrupt, match="empty"):
        PosteriorSnapshot.read(store, msgspec.structs.replace(pointer, path="posteriors/empty"))
    with pytest.raises(Unavailable, match="no such file"):
        PosteriorSnapshot.read(store, msgspec.structs.replace(pointer, path="posteriors/3"))


def test_a_remote_file_is_mapped_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    store = Store("memory://snapshots")
    store.write("posteriors/1", LARGE)
    pointer = SnapshotPointer(1, 0, "posteriors/1", PosteriorSnapshot(LARGE).sha256, 0, 20_000)
    assert PosteriorSnapshot.read(store, pointer).pairs == 20_000
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["1"]
    with pytest.raises(Unavailable):
        PosteriorSnapshot.read(store, msgspec.structs.replace(pointer, path="posteriors/2"))
