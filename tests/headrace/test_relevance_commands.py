"""`headrace relevance train`, `show` and `use` as they are typed: on the shop, on a folder without a log, on a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.folder import RunFolder
from headrace.services.lock import hold
from headrace.settings import load_settings
from schemas.artefacts import Artefacts
from schemas.errors import Conflict, Corrupt, HeadraceError, Incompatible, InvalidData, InvalidRequest, Unavailable
from schemas.store import Store

KINDS, COLOURS = ("hammer", "kettle", "lamp", "saw", "boot", "desk"), ("red", "blue", "green", "black", "white")


def headrace(*words: object) -> Result:
    return CliRunner().invoke(app, ["relevance", *map(str, words)])


def write(folder: Path, item: str = "", tier: int | None = None, rows: int | None = None) -> Path:
    """Tables alone: 30 items, 30 queries; tier 3 is type and colour, 2 the type, 1 the colour. The last queries are held out."""
    folder.mkdir()
    kinds = [(kind, colour) for kind in KINDS for colour in COLOURS]
    items = {"item_id": [f"i{n}" for n in range(30)], "title": [f"a {colour} {kind}" for kind, colour in kinds]}
    split = ["train"] * 25 + ["valid"] * 5
    queries = {"query_id": list(range(30)), "query": [f"{colour} {kind}" for kind, colour in kinds], "split": split}
    rng = np.random.default_rng(1)
    judged = [(q, n) for q in range(30) for n in rng.permutation(30)[:12]]
    tiers = [2 * (kinds[q][0] == kinds[n][0]) + (kinds[q][1] == kinds[n][1]) for q, n in judged]
    names = [f"i{n}" for _, n in judged]
    names[3], tiers[4] = item or names[3], tiers[4] if tier is None else tier
    judgments = {"query_id": [q for q, _ in judged], "item_id": names, "tier": tiers}
    for name, table in (("items", items), ("queries", queries), ("judgments", judgments)):
        pq.write_table(pa.table(table).slice(0, rows if name == "judgments" else None), folder / f"{name}.parquet")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run on the folder, as far as relevance goes, with a first scorer in force."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.save(load_settings(data=str(write(tmp_path / "mine")), store=str(folder.store), seed=5))
    made = headrace(
        "train", "--data", tmp_path / "mine", "--store", folder.store, "--splits", 1, "--json", tmp_path / "v.json"
    )
    assert made.exit_code == 0, made.output
    Artefacts(relevance=json.loads((tmp_path / "v.json").read_text())["version"]).save(Store(str(folder.store)))
    yield folder


def test_a_folder_without_a_log_is_trained_on_and_shown(tmp_path: Path, store: Store) -> None:
    """25 queries of 12 judgments are split three times; 5 more are the data's own held-out ones."""
    file = tmp_path / "result.json"
    words = ("--data", write(tmp_path / "mine"), "--store", store.url, "--json", file)
    made = headrace("train", *words, "--splits", 3, "--seed", 2)
    assert made.exit_code == 0, made.output
    result = json.loads(file.read_text())
    assert len(result["splits"]) == 3 and result["store"] == store.url
    for report in (*result["splits"], result["held_out"]):
        assert report["trained"] and report["judgments"] == 25 * 12
        assert sum(map(sum, report["confusion"])) == report["test_judgments"]
    assert result["held_out"]["test_judgments"] == 5 * 12 and result["held_out"]["kappa"] > 0.5
    assert f"{result['splits'][0]['kappa']:.3f}" in made.output and result["version"] in made.output

    before = store.read("catalogue/embeddings.npy")
    assert headrace("train", *words, "--splits", 1, "--seed", 3).exit_code == 0
    assert store.read("catalogue/embeddings.npy") == before
    second = json.loads(file.read_text())["version"]
    shown = headrace("show", "--store", store.url, "--json", file)
    assert shown.exit_code == 0, shown.output
    versions = json.loads(file.read_text())["versions"]
    assert set(versions) == {result["version"], second}
    assert versions[result["version"]]["report"] == result["splits"][0]
    full = headrace("show", second, "--store", store.url)
    assert full.exit_code == 0 and "3 excellent" in full.output and "confidence" in full.output


def test_the_built_in_shop_is_trained_on(tmp_path: Path, store: Store) -> None:
    file = tmp_path / "result.json"
    made = headrace("train", "--data", "shop", "--items", 150, "--store", store.url, "--splits", 1, "--json", file)
    assert made.exit_code == 0, made.output
    (report,) = json.loads(file.read_text())["splits"]
    assert report["trained"] and report["gain_bm25"][0] > 0
    assert len(np.load(Path(store.url) / "catalogue" / "embeddings.npy")) == 150


def test_a_run_uses_another_scorer_when_it_starts_again(run: RunFolder, tmp_path: Path) -> None:
    """Trained on the run's own data, into the run's own store, and in force only when told, and not while it is up."""
    place, file = Store(str(run.store)), tmp_path / "result.json"
    first = Artefacts.load(place).relevance
    made = headrace("train", "--run", run.root, "--seed", 8, "--splits", 1, "--json", file)
    assert made.exit_code == 0, made.output
    version = json.loads(file.read_text())["version"]
    assert version != first == Artefacts.load(place).relevance
    with hold(run.root):
        assert isinstance(headrace("use", version, "--run", run.root).exception, Conflict)
    assert isinstance(headrace("use", "0123456789ab", "--run", run.root).exception, Unavailable)
    assert Artefacts.load(place).relevance == first
    assert headrace("use", version, "--run", run.root).exit_code == 0
    assert Artefacts.load(place).relevance == version
    shown = headrace("show", "--run", run.root, "--json", file)
    assert f"{version} *" in shown.output and json.loads(file.read_text())["active"] == version


def test_a_runs_store_takes_no_other_catalogue(run: RunFolder) -> None:
    refused = headrace("train", "--data", "shop", "--items", 100, "--store", run.store)
    assert isinstance(refused.exception, Incompatible) and "belongs to a run" in str(refused.exception)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rows": 0}, "field 'number' is 0, but must be at least 200"),
        ({"rows": 199}, "is 199, but must be at least 200"),
        ({"item": "gone"}, "row 4, field 'item_id' is 'gone', but must be in items.parquet"),
        ({"tier": 7}, "row 5, field 'tier' is 7, but must be 0 to 3"),
        ({"tier": -1}, "row 5, field 'tier' is -1"),
    ],
)
def test_judgments_that_cannot_be_used_are_named(tmp_path: Path, store: Store, wrong: dict[str, object], said: str) -> None:
    refused = headrace("train", "--data", write(tmp_path / "mine", **wrong), "--store", store.url)  # type: ignore[arg-type]
    assert isinstance(refused.exception, InvalidData) and said in str(refused.exception)
    assert store.names("relevance") == []


def test_what_is_not_there_or_damaged_is_named(tmp_path: Path, store: Store) -> None:
    errors: list[tuple[Result, type[HeadraceError]]] = [
        (headrace("show", "--store", store.url), Unavailable),
        (headrace("show", "0123456789ab", "--store", store.url), Unavailable),
        (headrace("train", "--store", store.url), InvalidRequest),
    ]
    store.write("relevance/0123456789ab/scorer.json", b'{"v":2,"enc')
    errors.append((headrace("show", "--store", store.url), Corrupt))
    for result, error in errors:
        assert isinstance(result.exception, error), result.output
