"""Previews and effects of a run, on the command line and over HTTP, from a real broker and database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.commands.common import console
from headrace.folder import RunFolder
from headrace.previewing import previews_of
from headrace.settings import Settings, load_settings
from reward.desk.desk import Desk
from reward.desk.outside import catalogue_of
from reward.desk.wishes import wish
from reward.preview.effect import Effect
from reward.preview.results import Preview
from reward.preview.tables import effect_table, preview_tables
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role
from schemas.errors import EmptyScope, InvalidRequest, NotFound, WorthlessRelevance
from schemas.store import Store
from tests.reward import preview_toys
from tests.reward.preview_toys import Log, Toys

pytestmark = pytest.mark.services
ANN = Actor("ann", Role.APPROVER)


@pytest.fixture
def run(fresh_topics: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, Settings]:
    """A run whose catalogue is the toys'; whoever wants pages writes them."""
    monkeypatch.setattr(console, "width", 80)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    given = {name: getattr(fresh_topics, name) for name in ("kafka", "redis", "database", "store")}
    folder.save(load_settings(**given, serving={"control_share": 0.25}))
    preview_toys.catalogue(60).save(Store(fresh_topics.store))
    return folder, folder.settings()


def said(*arguments: object) -> Result:
    """What the command prints; its errors are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80, result.output
    return result


def test_a_preview_on_the_command_line(run: tuple[RunFolder, Settings], tmp_path: Path) -> None:
    """Other defaults, a campaign's file and its waiting draft: tables, and the same numbers as JSON."""
    folder, settings = run
    toys, file = preview_toys.make(300), tmp_path / "out.json"
    Log(settings.connections, "cli").write(toys)
    shown = said("weights", "preview", "relevance=2", "--run", folder.root, "--json", file)
    for words in (
        "Preview against version 1: 300 pages",
        "What the learner sees",
        "place by place",
        "whole lists",
        "effective",
    ):
        assert words in " ".join(shown.output.split()), words
    found = msgspec.json.decode(file.read_bytes(), type=Preview)
    assert found.pages == 300 and found.support.used == 300
    for table in preview_tables(found):
        lines = shown.output[shown.output.index(table.title) :].splitlines()
        for cells in table.rows:
            assert any(all(cell in line for cell in cells) for line in lines), cells
    assert "Queries that gain and lose" in shown.output and "Categories that gain and lose places" in shown.output
    tiers = [item.tier for e in toys.examples for item in e.items]
    assert found.rewards.after - found.rewards.before == pytest.approx(sum(tiers) / len(tiers))
    campaign = tmp_path / "lamp-week.yaml"
    campaign.write_text("scope: {categories: [lamps]}\nrelevance: 2\nto: 2100-01-01T00:00\n")
    said("campaigns", "preview", campaign, "--run", folder.root, "--json", file)
    of_file = json.loads(file.read_bytes())
    assert of_file["categories"]["gaining"][0]["name"] == "lamps"
    said("campaigns", "draft", "lamp-week", "--file", campaign, "--run", folder.root)
    said("campaigns", "preview", "lamp-week", "--run", folder.root, "--json", file)
    assert json.loads(file.read_bytes())["rewards"] == of_file["rewards"]
    said("weights", "preview", "order=8", "--examples", 50, "--run", folder.root, "--json", file)
    assert json.loads(file.read_bytes())["pages"] == 50


def test_a_preview_says_what_would_keep_a_draft_from_acting(run: tuple[RunFolder, Settings], tmp_path: Path) -> None:
    """Order 27 leaves relevance 3 of 31: told first, in the words of the refusal, on the command line and over HTTP."""
    folder, settings = run
    Log(settings.connections, "held").write(preview_toys.make(100))
    desk = Desk(open_database(settings.connections), settings.reward.desk, catalogue_of(Store(settings.store)))
    (told,) = desk.draft("sale", wish({"scope": {"categories": ["lamps"]}, "order": 27}), ANN, "why").refusals
    shown = said("campaigns", "preview", "sale", "--run", folder.root, "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_bytes())["warnings"][0] == told
    assert told in " ".join(shown.output.split()) and "an approver may override it" in told
    with pytest.raises(WorthlessRelevance) as caught:
        desk.activate("sale", ANN, "why")
    assert told == f"activate would refuse this: {caught.value}"
    settings = settings.model_copy(update={"console": settings.console.model_copy(update={"access": "open"})})
    with served(settings) as http:
        assert http.post("/api/preview", json={"subject": "sale"}).json()["warnings"][0] == told
        assert http.post("/api/preview", json={"wish": {"order": 5}}).json()["warnings"][:1] != [told]
        learned = http.post("/api/preview", json={"wish": {"order": 5}}).json()
        assert learned["not_estimated"].startswith("acts through learning") and learned["expected"] == []
        assert [one["subject"] for one in http.get("/api/drafts").json()] == ["sale"]


def test_what_cannot_be_previewed_is_told(run: tuple[RunFolder, Settings]) -> None:
    """No pages yet; a number of examples out of bounds; an unknown weight; a campaign that nobody drafted; one of nothing."""
    folder, _ = run
    nowhere = folder.root / "nowhere.yaml"
    nowhere.write_text("scope: {categories: [lmaps]}\nrelevance: 2\n")
    for error, words, arguments in (
        (InvalidRequest, "click window", ("weights", "preview", "order=8")),
        (InvalidRequest, "200,000", ("weights", "preview", "order=8", "--examples", "0")),
        (InvalidRequest, "orders", ("weights", "preview", "orders=8")),
        (InvalidRequest, "0 to 100", ("weights", "preview", "order=nan")),
        (NotFound, "nothing-such", ("campaigns", "preview", "nothing-such")),
        (NotFound, "nothing-such", ("campaigns", "effect", "nothing-such")),
        (InvalidRequest, "nothing to compare", ("weights", "effect")),
        (EmptyScope, "nearest to lmaps: lamps", ("campaigns", "preview", nowhere)),
    ):
        with pytest.raises(error, match=words):
            said(*arguments, "--run", folder.root)


def test_the_effect_of_the_last_change(run: tuple[RunFolder, Settings], tmp_path: Path) -> None:
    """A campaign was activated as version 2; a quarter of the users kept version 1."""
    folder, settings = run
    desk = Desk(open_database(settings.connections), settings.reward.desk)
    desk.set({"relevance": 2.0}, ANN, "more relevance")
    pages = []
    for n, e in enumerate(preview_toys.make(400).examples):
        pages.append(msgspec.structs.replace(e, user=f"u{n % 80}", weights_version=1 if n % 80 < 20 else 2))
    Log(settings.connections, "effect").write(Toys(pages, {}, preview_toys.catalogue(60)))
    shown = said("weights", "effect", "--run", folder.root, "--json", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_bytes())
    assert (found["treated_users"], found["control_users"], found["split"]["found"]) == (60, 20, 0.25)
    assert "version 2 against version 1" in " ".join(shown.output.split()) and "early: 20 users" in shown.output
    of_version = said("weights", "effect", "--version", 2, "--run", folder.root)
    assert of_version.output == shown.output
    opened = settings.model_copy(update={"console": settings.console.model_copy(update={"access": "open"})})
    with served(opened) as http:
        answer = http.get("/api/effect", params={"version": 2}).json()
    told = effect_table(msgspec.convert(found, Effect))
    assert answer == found | {"tables": [json.loads(msgspec.json.encode(told))]}


@contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    """The console on a port of its own, open to all."""
    from console.app import create_app

    previews = previews_of(settings, settings.store)
    made = create_app(
        settings.connections, settings.console, settings.reward.desk, catalogue_of(Store(settings.store)),
        previews=previews, control_share=0.25,
    )  # fmt: skip
    web = uvicorn.Server(uvicorn.Config(made, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        while not web.started:
            assert thread.is_alive(), "the console did not start"
            time.sleep(0.01)
        url = "http://{}:{}".format(*web.servers[0].sockets[0].getsockname())
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
            yield http
    finally:
        web.should_exit = True
        thread.join(timeout=15)
        made.state.engine.dispose()


def test_previews_over_http(run: tuple[RunFolder, Settings]) -> None:
    """The same numbers as on the command line; pages that come later are in the next answer; refusals have their status."""
    _, settings = run
    settings = settings.model_copy(update={"console": settings.console.model_copy(update={"access": "open"})})
    log = Log(settings.connections, "http")
    with served(settings) as http:

        def ask(**body: Any) -> httpx.Response:
            return http.post("/api/preview", json=body)

        assert ask(wish={"relevance": 2.0}).status_code == 422  # no pages yet
        log.write(preview_toys.make(200))
        answer = ask(wish={"relevance": 2.0})
        assert answer.status_code == 200 and answer.json()["pages"] == 200
        found = msgspec.json.decode(answer.content, type=Preview)
        assert found.support.used == 200 and found.rewards.after > found.rewards.before
        assert answer.json()["tables"] == json.loads(msgspec.json.encode(preview_tables(found))) and found.by_query.losing
        nowhere = ask(subject="sale", wish={"scope": {"categories": ["lmaps"]}, "ctr": 3.0})
        assert nowhere.status_code == 422 and "nearest to lmaps: lamps" in nowhere.text
        assert ask(subject="sale", wish={"scope": {"brands": ["acme"]}, "ctr": 3.0}).json()["places"]["pages"] == 200
        assert ask(subject="sale").status_code == 404 and ask(subject="Sale!").status_code == 422
        assert ask(wish={"relevance": 200.0}).status_code == 422
        assert http.get("/api/effect").status_code == 422 and http.get("/api/effect?version=9").status_code == 404
        document = http.get("/openapi.json").json()
        assert document["paths"]["/api/preview"]["post"]["x-role"] == "viewer"
