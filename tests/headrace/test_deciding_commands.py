"""`headrace weights`, `campaigns` and `tokens` as an operator types them, over a real database and broker."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from schemas import log
from schemas.connections import Connections
from schemas.errors import EmptyScope, Forbidden, FourEyes, InvalidRequest, Superseded, UnknownToken
from schemas.store import Store
from schemas.topics import WEIGHTS
from tests.reward.desk_toys import catalogue

pytestmark = pytest.mark.services


class Shell:
    """Types commands; ``json`` is what the last one wrote."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, line: str, *more: str) -> Result:
        """Run and return; what the command raises comes out."""
        done = CliRunner().invoke(app, [*line.split(), *more], catch_exceptions=False, standalone_mode=False)
        assert done.exit_code == 0, done.output
        return done

    def json(self, line: str, *more: str) -> Any:
        self(line, *more, "--json", str(self.file))
        return json.loads(self.file.read_text())


@pytest.fixture
def shell(fresh_topics: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A run that is up, with a catalogue, at a terminal of 80 columns."""
    catalogue().save(Store(fresh_topics.store))
    settings = {name: getattr(fresh_topics, name) for name in ("kafka", "redis", "database", "store")}
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"services": "external"}))
    monkeypatch.setenv("HEADRACE_SETTINGS", str(tmp_path / "settings.json"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("HEADRACE_TOKEN", raising=False)
    return Shell(tmp_path / "out.json")


def test_the_life_of_a_campaign_by_commands(shell: Shell, fresh_topics: Connections, tmp_path: Path) -> None:
    """The worked example of docs/campaigns.md: options, a file, the schedule, the overlap, the end, the way back."""
    drafted = shell.json(
        "campaigns draft black-friday --category shoes --from 2099-11-27T00:00 --to 2099-11-30T00:00 --zone Europe/Berlin "
        "--order 8 --brand-factor Tessaro=1.2 --why", "sell shoes",
    )  # fmt: skip
    body = drafted["decision"]["body"]
    assert (body["order"], body["scope"]["categories"], body["multipliers"]["brands"]) == (8.0, ["shoes"], {"Tessaro": 1.2})
    again = shell.json("campaigns draft black-friday --order 6 --why milder")
    assert again["changes"] == [{"field": "order", "old": 8.0, "new": 6.0}]
    assert shell.json("campaigns schedule black-friday --why go")["decision"]["state"] == "scheduled"
    (tmp_path / "brand.yaml").write_text("name: Velkin weeks\nscope:\n  brands: [Velkin]\norder: 7\n")
    shell(f"campaigns draft velkin --file {tmp_path / 'brand.yaml'}")
    live = shell.json("campaigns activate velkin --why go")
    assert live["overlaps"] == [{"first": "black-friday", "second": "velkin", "items": 1, "wins": {"order": "black-friday"}}]
    assert [(s["subject"], s["state"]) for s in shell.json("campaigns list")] == [
        ("black-friday", "scheduled"),
        ("velkin", "active"),
    ]
    assert [s["subject"] for s in shell.json("campaigns list --state active")] == ["velkin"]
    shell("campaigns end velkin --why stop")
    back = shell.json("campaigns rollback 1 --why undo")
    assert (back["version"], back["campaigns"]) == (5, [])
    assert [(s["subject"], s["state"]) for s in shell.json("campaigns list")] == [
        ("black-friday", "rolled back"),
        ("velkin", "ended"),
    ]
    told = [entry.record for entry in log.scan(fresh_topics, WEIGHTS)]
    assert [book.version for book in told] == [2, 3, 4, 5]
    assert [a["action"] for a in shell.json("campaigns audit black-friday")] == ["rollback", "schedule", "draft", "draft"]
    assert shell.json("campaigns show velkin")["standing"]["state"] == "ended"


def test_what_is_given_empty_is_taken_out_again(shell: Shell, tmp_path: Path) -> None:
    """A weight, factors, a limit, the end; the rest stays. What is left has to be a campaign, and a number a number."""
    shell("campaigns draft sale --category shoes --brand Velkin --order 8 --click 5 --margin 1.2 --new-items 1.1 --zone Europe/Berlin "
          "--brand-factor Velkin=1.5 --to 2099-11-30T00:00+01:00")  # fmt: skip
    changes = shell.json("campaigns draft sale --click= --margin= --category= --brand-factor= --to=")["changes"]
    assert {c["field"]: (c["old"], c["new"]) for c in changes} == {
        "click": (5.0, None), "multipliers.margin": (1.2, 1.0), "scope.categories": ("shoes", None),
        "multipliers.brands.Velkin": (1.5, None), "to": ("2099-11-30 00:00:00+01:00", None),
    }  # fmt: skip
    file = tmp_path / "sale.yaml"
    file.write_text("order: 7\nclick: 2\nscope: {brands: [Velkin]}\n")
    body = shell.json(f"campaigns draft other --file {file} --click= --brand=")["decision"]["body"]
    assert (body["order"], body.get("click"), body["scope"]) == (7.0, None, {})
    with pytest.raises(InvalidRequest, match="at least one weight or multiplier"):
        shell("campaigns draft other --order=")
    with pytest.raises(InvalidRequest, match=r'--click is \'much\', but must be a number, or empty; .*`--click ""`'):
        shell("campaigns draft other --click much")
    file.write_text("scope: [shoes]\norder: 7\n")
    with pytest.raises(InvalidRequest, match=r"scope is \['shoes'\].*Expected `object`"):
        shell(f"campaigns draft other --file {file} --brand Velkin")


def test_weights_by_commands(shell: Shell) -> None:
    me = getpass.getuser()
    assert shell.json("weights set order=8 click=5 --why sale --expect 1")["version"] == 2
    with pytest.raises(Superseded, match=rf"version 2 by {me}.*click 3 -> 5; order 4 -> 8"):
        shell("weights set order=9 --expect 1")
    shell("weights draft ctr=2 --why clicks")
    assert shell.json("weights diff") == [{"field": "ctr", "old": 1.0, "new": 2.0}]
    assert shell.json("weights activate --why go")["book"]["ctr"] == 2.0
    assert [c["field"] for c in shell.json("weights diff 1 3")] == ["ctr", "click", "order"]
    shown = shell.json("weights show")
    assert shown["active"]["version"] == 3 and [w["version"] for w in shown["history"]] == [1, 2, 3]
    assert shell.json("weights rollback 1")["version"] == 4
    assert [a["action"] for a in shell.json("weights audit")][:2] == ["rollback", "activate"]
    assert [r["state"] for r in shell.json("weights list --state active")] == ["active"] * 3


def test_tables_keep_their_words_in_eighty_columns(shell: Shell) -> None:
    """Nothing is cut when the output is a pipe: long names fold."""
    name, why = "a-campaign-with-a-name-of-some-length-2099", "because-of-a-reason-without-any-space-that-is-long"
    shell(f"campaigns draft {name} --category shoes --order 8 --why {why}")
    shell(f"campaigns activate {name} --why {why}")
    for line in ("campaigns list", f"campaigns show {name}", "campaigns audit", "weights show", "weights list"):
        out = shell(line).output
        assert max(map(len, out.splitlines())) <= 80 and "…" not in out
    first = [line.split("│")[1].strip() for line in shell("campaigns list").output.splitlines() if line.startswith("│")]
    assert "".join(first) == name


def test_a_token_says_who_acts_and_what_they_may(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor's token: drafts are hers, overriding is not; revoked it is nobody's."""
    made = shell.json("tokens create ann --role editor")
    assert made["secret"] not in shell("tokens list").output
    monkeypatch.setenv("HEADRACE_TOKEN", made["secret"])
    assert shell.json("weights set order=5")["author"] == "ann"
    with pytest.raises(Forbidden, match=r"ann \(editor\)"):
        shell("weights set order=90 --override")
    with pytest.raises(Forbidden, match="list the tokens"):
        shell("tokens list")
    with pytest.raises(Forbidden, match="create a token"):
        shell("tokens create bob --role approver")
    monkeypatch.delenv("HEADRACE_TOKEN")
    shell("tokens revoke ann")
    monkeypatch.setenv("HEADRACE_TOKEN", made["secret"])
    with pytest.raises(UnknownToken, match="revoked"):
        shell("weights set order=6")


@pytest.mark.parametrize("secret", ["garbage", " "])
def test_a_token_that_nobody_holds_is_refused_to_readers_too(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """Never taken as none: by every command that knows tokens, and what was given is not printed."""
    shell("campaigns draft sale --category shoes --order 8")
    monkeypatch.setenv("HEADRACE_TOKEN", secret)
    for line in (
        "weights show", "weights list", "weights diff", "weights audit", "weights effect", "weights draft order=5",
        "campaigns list", "campaigns show sale", "campaigns diff sale", "campaigns audit", "campaigns preview sale",
        "tokens list", "tokens create bob --role viewer", "integrity release 0 --why x",
    ):  # fmt: skip
        with pytest.raises(UnknownToken, match=r"take it out .*HEADRACE_TOKEN") as caught:
            shell(line)
        assert "garbage" not in str(caught.value)


def test_settings_of_the_desk_hold_on_the_command_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_REWARD__DESK__FOUR_EYES", "true")
    with pytest.raises(FourEyes, match="draft it, and let another approver activate"):
        shell("weights set order=5")
    with pytest.raises(EmptyScope, match="nearest to shose: shoes"):
        shell("campaigns draft sale --category shose --order 8")
