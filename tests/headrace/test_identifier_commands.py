"""`headrace identifiers` as it is typed: on a folder with a log, on a catalogue file, on a run that is up."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaProducer

from headrace.folder import RunFolder
from headrace.identifier_data import open_source
from headrace.settings import load_settings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidData, InvalidRequest, InvalidSetting, InvalidValue, Unavailable
from schemas.events import ItemAdded
from schemas.store import Store
from schemas.topics import ITEMS
from tests.headrace.identifier_toys import headrace, refused, result, write_shop
from trainers.identifiers.build import Identifiers
from trainers.identifiers.mapping import Mapping
from trainers.journal import read_topic


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "mine")


def test_build_show_inspect_assign_drift_and_rebuild(shop: Path, tmp_path: Path) -> None:
    """One store from the first build to the mapping: changes are remembered beside the version, and the mapping knows them."""
    where = ("--store", tmp_path / "store")
    built = result(tmp_path, "build", "--data", shop, *where, "--seed", 1)
    store, version = Store(str(tmp_path / "store")), built["version"]
    made = Identifiers.load(store, version)
    assert built["summary"]["quality"]["icr"] == 1 and len(made.sids_NL) == 60 and made.known_N.all()
    assert version in headrace("show", *where).output
    tree = result(tmp_path, "inspect", "red hammer", *where, "--breadth", 2)
    assert tree["sid"] == made.query_sids(["red hammer"], _embed(["red hammer"]))[0].tolist()
    assert tree["tree"]["items"] == 60 and "hammer" in tree["printed"] and "●" in tree["printed"]

    changes = tmp_path / "changes.jsonl"
    changes.write_text('{"item": "new", "title": "purple hammer"}\n{"item": "i1", "removed": true}\n'
                       '{"item": "i0", "title": "red hammer v1"}\n{"item": "i2", "title": "green violin"}\n')  # fmt: skip
    given = result(tmp_path, "assign", changes, *where, "--at", 77)
    records = [msgspec.convert(record, ItemAdded) for record in given["records"]]
    assert [(r.item, r.ts, bool(r.sid), bool(r.freed)) for r in records] == [
        ("new", 77, True, False), ("i1", 77, False, True), ("i2", 77, True, True),
    ]  # fmt: skip
    assert given["unchanged"] == 1
    facts = ("--category", "hand tools", "--brand", "kelda", "--price", 19.99)
    said = result(tmp_path, "assign", "--item", "new", "--title", "purple hammer", *facts, *where)["records"]
    assert [(r["category"], r["brand"], r["price"]) for r in said] == [("hand tools", "kelda", 19.99)]
    assert said[0]["sid"] == list(records[0].sid) and said[0]["freed"] == []
    (tmp_path / "facts.jsonl").write_text('{"item": "new", "title": "purple hammer", "price": 19.99}\n'
                                          '{"item": "new", "price": 5}\n')  # fmt: skip
    given = result(tmp_path, "assign", tmp_path / "facts.jsonl", *where)
    assert given["unchanged"] == 1
    assert [(r["title"], r["category"], r["price"]) for r in given["records"]] == [("purple hammer", "", 5.0)]
    now = result(tmp_path, "items", "new", "i1", "i3", *where)
    sid = tuple(made.sids_NL[3].tolist())
    known = (
        (said[0]["sid"], "purple hammer", "hand tools", "kelda", 5.0),
        ([], "blue hammer v1", "", "", 0),
        (list(sid), "black hammer v1", "", "", 0),
    )
    assert [(r["sid"], r["title"], r["category"], r["brand"], r["price"]) for r in now["items"]] == list(known)
    assert now["version"] == version and "removed" in now["printed"]
    cell = [f"i{n}" for n in range(60) if n not in (1, 2) and made.sids_NL[n, 0] == sid[0]]
    beside = {r["item"]: r["sid"] for r in result(tmp_path, "items", "i3", "--below", sid[0], *where)["items"]}
    assert set(beside) - {"new", "i2"} == set(cell) and len(beside) > 1 and next(iter(beside)) == "i3"
    assert list(beside.values())[1:] == sorted(s for item, s in beside.items() if item != "i3")
    one = result(tmp_path, "assign", "--item", "new2", "--title", "purple hammer", *where)
    assert one["records"][0]["sid"] != list(records[0].sid)  # the first is remembered
    assert result(tmp_path, "inspect", "purple hammer", *where)["tree"]["items"] == 61
    assert result(tmp_path, "drift", *where)["verdict"] == "too few new items to judge by"

    again = result(tmp_path, "build", "--data", shop, *where, "--seed", 2, "--replaces", version)
    mapping = Mapping.load(store, version, again["version"])
    assert again["lost"] == 2  # "new" and "new2", which the data do not have; "i1" was removed before
    old = dict(zip(mapping.items, mapping.old, strict=True))
    assert (old["i1"], old["i2"], old["new"]) == ((), records[2].sid, records[0].sid)
    assert old["i5"] == tuple(made.sids_NL[5].tolist()) and mapping.items[60:] == ("new", "new2")
    with pytest.raises(Unavailable, match="--version"):
        raise headrace("inspect", "red hammer", *where).exception or AssertionError
    refused(Unavailable, "--replaces", "build", "--data", shop, *where, "--replaces", "nowhere")
    said = headrace("build", "--data", shop, *where, "--sizes", "64/2/2/64/2", "--replaces", version).output
    assert "2 items that have one under" in said and "level 1 has 64" not in said


def test_compare_puts_every_method_under_the_same_measure(shop: Path, tmp_path: Path) -> None:
    """Clicks come from the log; every query clicked two items; recall lies in [0, 1] and ours gains nothing on itself."""
    words = ("--store", tmp_path / "store", "--seeds", 2, "--budget", 5, "--vae-steps", 5, "--sizes", "8/4/4/4/4")
    found = result(tmp_path, "compare", "--data", shop, *words)
    assert (found["queries"], found["clicked"], found["level_sizes"]) == (30, 60, [8, 4, 4, 4, 4])
    by_name = {row["method"]: row for row in found["methods"]}
    assert list(by_name) == ["ours", "without keywords", "RQ k-means", "RQ-VAE"]
    assert all(0 <= row["interval"][0] <= row["recall"] <= row["interval"][1] <= 1 for row in by_name.values())
    assert all(len(row["recall_of_seeds"]) == 2 for row in by_name.values())
    assert by_name["ours"]["gain"] == 0 and by_name["ours"]["icr"] == 1
    assert by_name["RQ-VAE"]["gain"] == pytest.approx(by_name["ours"]["recall"] - by_name["RQ-VAE"]["recall"])
    assert found["wins"] == max(by_name, key=lambda name: by_name[name]["recall"])


def test_a_catalogue_file_will_do_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """A file in the store's own form, without queries or clicks; wrong words end with what would be right."""
    none = np.zeros(3, np.int64)
    catalogue = Catalogue(
        ("a", "b", "c"), ("red lamp", "blue lamp", "saw"), ("",) * 3, ("",) * 3, none.astype(np.float32), none, ({},) * 3
    )
    catalogue.save(Store(str(tmp_path)), "mine.parquet")
    source = open_source(str(tmp_path / "mine.parquet"), load_settings(), 0, 1)
    assert (source.name, source.catalogue.titles, source.queries, source.clicks) == ("mine", catalogue.titles, (), {})
    where = ("--store", tmp_path / "store")
    assert result(tmp_path, "build", "--data", tmp_path / "mine.parquet", *where)["summary"]["quality"]["items"] == 3

    refused(InvalidRequest, "5 numbers", "build", "--data", tmp_path / "mine.parquet", *where, "--sizes", "4/4")
    refused(InvalidRequest, "name the data", "build", *where)
    refused(InvalidData, "clicks", "compare", "--data", tmp_path / "mine.parquet", *where)
    refused(InvalidRequest, "a file, or --item", "assign", *where)
    refused(InvalidRequest, "item x alone.* a title, category, .* or removed", "assign", "--item", "x", *where)
    refused(
        InvalidValue,
        "3 identifiers or more, one for each item",
        "build",
        "--data",
        tmp_path / "mine.parquet",
        *where,
        "--sizes",
        "1/1/1/1/2",
    )
    many = ("--store", tmp_path / "many", "--sizes", "4096/2/2/2/2")
    assert "level 1 has 3 codes, 4096 were asked for" in headrace("build", "--data", tmp_path / "mine.parquet", *many).output
    refused(InvalidRequest, "ids of items, or --below", "items", *where)
    refused(InvalidRequest, "item is 'd'", "items", "a", "d", *where)
    for wrong in ("x", "-1", "3-", "0-0-0-0-0-0", "99999999999999999999", "²"):
        refused(InvalidRequest, "one to 5 codes", "items", f"--below={wrong}", *where)
    refused(InvalidRequest, "not empty", "inspect", "  ", *where)
    refused(Unavailable, "nowhere", "inspect", "lamp", "--version", "nowhere", *where)
    refused(Unavailable, "identifiers build", "show", "--store", tmp_path / "empty")
    title, big = ("--title", "lamp"), str(2**63 - 1)
    refused(InvalidRequest, "without a comma", "assign", "--item", "x,y", *title, *where)
    refused(InvalidRequest, "1 to 128 characters", "assign", "--item", "x" * 129, *title, *where)
    refused(InvalidRequest, "not only space", "assign", "--item", " ", *title, *where)
    refused(InvalidRequest, "not only space", "assign", "--item", "x", "--title", "  ", *where)
    refused(InvalidRequest, "at most 10000 characters", "assign", "--item", "x", "--title", "x" * 10_001, *where)
    refused(InvalidRequest, "valid UTF-8", "assign", "--item", "x", "--title", "lamp \udcff", *where)
    refused(InvalidRequest, "a day from now", "assign", "--item", "x", *title, "--at", big, *where)
    refused(InvalidRequest, "at most 1000 characters", "assign", "--item", "x", *title, "--brand", "x" * 1_001, *where)
    refused(InvalidRequest, r"price of change.*1e-06 to 1e\+09", "assign", "--item", "x", *title, "--price", 1e300, *where)
    refused(
        InvalidRequest,
        "item x removed and described.* say one of the two",
        "assign",
        "--item",
        "x",
        "--remove",
        "--category",
        "lamps",
        *where,
    )
    refused(InvalidRequest, "without space around it", "assign", "--item", "x", *title, "--category", "lamps ", *where)
    refused(InvalidRequest, "control characters", "assign", "--item", "x", *title, "--brand", "a\nb", *where)
    refused(InvalidRequest, "price of change.*1e-06 to", "assign", "--item", "x", *title, "--price", 1e-50, *where)
    refused(InvalidRequest, "one that has an identifier, or a title", "assign", "--item", "x", "--price", 5, *where)
    assert result(tmp_path, "drift", *where)["drift"]["new"] == 0  # nothing was kept that could not be read again
    (tmp_path / "wrong.jsonl").write_text('{"item": "a", "name": "b"}')
    refused(InvalidRequest, r"line 1 of .*wrong\.jsonl .*name", "assign", tmp_path / "wrong.jsonl", *where)
    (tmp_path / "wrong.jsonl").write_bytes(b'{"item": "a", "title": "lamp"}\n\n{"item": "b", "title": "\xff"}\n')
    refused(InvalidRequest, r"line 3 of .*wrong\.jsonl", "assign", tmp_path / "wrong.jsonl", *where)
    (tmp_path / "wrong.jsonl").write_text('{"item": "", "title": "lamp"}')
    refused(InvalidRequest, "item of change.* name the item", "assign", tmp_path / "wrong.jsonl", *where)
    pq.write_table(
        pa.table({"item_id": pa.array([], pa.int64()), "title": pa.array([], pa.string())}), tmp_path / "empty.parquet"
    )
    refused(InvalidSetting, "at least one item", "build", "--data", tmp_path / "empty.parquet", *where)


def test_a_live_run_is_written_to_its_topic(shop: Path, tmp_path: Path, fresh_topics: Connections) -> None:
    """What is assigned is in the topic that servers follow, under the run's version; the next writer has read it."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.save(load_settings(data=str(shop), store=str(folder.store), kafka=fresh_topics.kafka))
    built = result(tmp_path, "build", "--data", shop, "--store", folder.store, "--seed", 1)
    Artefacts(identifiers=built["version"]).save(Store(str(folder.store)))
    first = result(tmp_path, "assign", "--item", "new", "--title", "purple hammer", "--run", folder.root)
    second = result(tmp_path, "assign", "--item", "new2", "--title", "purple hammer", "--run", folder.root)
    assert first["published"] == ITEMS.name
    records = read_topic(fresh_topics, ITEMS)
    assert [(r.item, r.codebook_version) for r in records] == [("new", built["version"]), ("new2", built["version"])]
    assert records[0].sid != records[1].sid and [first["records"][0]["sid"], second["records"][0]["sid"]] == [
        list(record.sid) for record in records
    ]
    assert result(tmp_path, "inspect", "hammer", "--run", folder.root)["tree"]["items"] == 62
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    producer.send(ITEMS.name, value=b"{broken", partition=0)
    producer.close()
    third = result(tmp_path, "assign", "--item", "new3", "--title", "purple hammer", "--run", folder.root)
    assert third["records"][0]["sid"] not in [list(record.sid) for record in records]


@pytest.mark.slow
def test_a_version_keeps_the_catalogue_that_it_was_built_for(shop: Path, tmp_path: Path) -> None:
    """Other catalogues are built into the same store, of the same size and of another: titles, changes and mapping of the first
    stay right. Titles alone do not make two catalogues one."""
    where = ("--store", tmp_path / "store")
    first = result(tmp_path, "build", "--data", shop, *where)["version"]
    before = result(tmp_path, "inspect", "red hammer", *where)["tree"]

    def rewritten(ids: list[str], titles: list[str]) -> None:
        pq.write_table(pa.table({"item_id": ids, "title": titles}), shop / "items.parquet")

    ids = [f"i{n}" for n in range(60)]
    for count in (60, 61):
        rewritten([f"i{n}" for n in range(count)], [f"violin number {n}" for n in range(count)])
        again = result(tmp_path, "build", "--data", shop, *where, "--replaces", first)
        assert result(tmp_path, "inspect", "red hammer", *where, "--version", first)["tree"] == before
    moved = result(tmp_path, "assign", "--item", "i0", "--title", "blue violin", *where, "--version", first)
    assert moved["records"][0]["freed"] == Identifiers.load(Store(str(tmp_path / "store")), first).sids_NL[0].tolist()
    rewritten([*ids[::-1], "i60"], [f"violin number {n}" for n in range(61)])  # same titles in the same order, other items
    with pytest.raises(Incompatible, match=again["version"]):
        raise headrace("build", "--data", shop, *where).exception or AssertionError


def _embed(texts: list[str]) -> np.ndarray:
    from reward.encoder import SentenceEncoder

    return SentenceEncoder().encode(texts)


def test_plain_bad_input_is_refused_by_name_before_any_work(tmp_path: Path) -> None:
    """Neither the store nor the data that are named here exist: nothing gets so far as to ask for them."""
    where = ("--store", tmp_path / "store")
    (tmp_path / "bytes.jsonl").write_bytes(b'{"item": "a", "title": "caf\xe9"}\n')
    refused(InvalidRequest, "bytes.jsonl", "assign", tmp_path / "bytes.jsonl", *where)
    refused(InvalidRequest, "valid UTF-8", "inspect", "caf\udce9", *where)
    refused(InvalidSetting, "the store .* a folder", "show", "--store", tmp_path / "bytes.jsonl" / "x")
    for wrong in (tmp_path, tmp_path / "bytes.jsonl" / "x"):
        refused(
            InvalidRequest, "--json .*can be written", "assign", "--item", "a", "--title", "hat", *where, "--json", wrong
        )
    (tmp_path / "one.jsonl").write_text('{"item": "a", "title": "hat"}\n')
    refused(InvalidRequest, "a file and options of an item", "assign", tmp_path / "one.jsonl", "--price", 5, *where)
    for command in ("build", "compare"):
        done = headrace(command, "--data", tmp_path / "none", *where, "--seed", 2**64)
        assert done.exit_code == 2 and "2,147,483,647" in done.output


def test_the_last_seed_builds_and_a_time_far_ahead_is_refused(shop: Path, tmp_path: Path) -> None:
    """Levels count on from the seed, and faiss takes no larger one; a wrong time would hide an item for good."""
    where, now = ("--store", tmp_path / "store"), int(time.time() * 1000)
    result(tmp_path, "build", "--data", shop, *where, "--seed", 2**31 - 1)
    change = ("assign", "--item", "a", "--title", "hat", *where, "--at")
    refused(InvalidRequest, "--at .*a day from now.*no later", *change, now + 2 * 86_400_000)
    assert result(tmp_path, *change, now + 3_600_000)["records"]
