"""A little shop as a data folder, and `headrace identifiers` as it is typed: what several tests of the command build on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app

KINDS, COLOURS = ("hammer", "kettle", "lamp", "saw", "boot", "desk"), ("red", "blue", "green", "black", "white")
KINDS_COLOURS = [(kind, colour) for kind in KINDS for colour in COLOURS]


def headrace(*words: object) -> Result:
    return CliRunner().invoke(app, ["identifiers", *map(str, words)])


def result(folder: Path, *words: object) -> dict[str, object]:
    """What the command writes as JSON; it must end well."""
    file = folder / "out.json"
    done = headrace(*words, "--json", file)
    assert done.exit_code == 0, (done.output, done.exception)
    return {**json.loads(file.read_text()), "printed": done.output}


def refused(kind: type[Exception], match: str, *words: object) -> None:
    """The command ends with this error."""
    with pytest.raises(kind, match=match):
        raise headrace(*words).exception or AssertionError


def write_shop(folder: Path) -> Path:
    """Tables and a log: who asks for a thing clicks things of its kind."""
    (folder / "stream").mkdir(parents=True)
    items = {"item_id": [f"i{n}" for n in range(60)], "title": [f"{c} {k} v{s}" for s in (1, 2) for k, c in KINDS_COLOURS]}
    queries = {"query_id": list(range(30)), "query": [f"{colour} {kind}" for kind, colour in KINDS_COLOURS]}
    judgments = {"query_id": [0], "item_id": ["i0"], "tier": [3]}
    for name, table in (("items", items), ("queries", queries), ("judgments", judgments)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    lines = []
    for query in range(30):
        shown = [f"i{n}" for n in (query, query + 30, (query + 7) % 60)]
        lines.append({"type": "impression", "ts": 1000 + query, "imp": query, "user": 1, "query_id": query, "items": shown})
        lines += [{"type": "click", "ts": 1001 + query, "imp": query, "user": 1, "item": item} for item in shown[:2]]
    (folder / "stream" / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
