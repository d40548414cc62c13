"""Every endpoint by every role: allowed or refused exactly as it declares. And what the API answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from console.app import create_app
from console.settings import ConsoleSettings
from headrace.services.ports import free_port
from reward.desk.tokens import Tokens
from reward.settings import DeskSettings
from schemas.connections import Connections
from schemas.decisions import Actor, Role
from tests.console.served import listening
from tests.reward.desk_toys import facts

ROOT = Actor("root", Role.APPROVER)
WISH = {"scope": {"categories": ["shoes"]}, "order": 8}
WHY = {"why": "why"}

#: What each endpoint takes: method, path, body, the least role. `test_no_endpoint_is_left_out` holds it complete.
ENDPOINTS: tuple[tuple[str, str, Any, Role], ...] = (
    ("GET", "/api/me", None, Role.VIEWER),
    ("GET", "/api/weights", None, Role.VIEWER),
    ("POST", "/api/weights", {"changes": {"order": 5}, **WHY}, Role.EDITOR),
    ("GET", "/api/weights/decisions", None, Role.VIEWER),
    ("GET", "/api/weights/diff", None, Role.VIEWER),
    ("PUT", "/api/weights/draft", {"wish": {"order": 5}, **WHY}, Role.EDITOR),
    ("POST", "/api/weights/activate", WHY, Role.EDITOR),
    ("POST", "/api/weights/schedule", WHY, Role.EDITOR),
    ("POST", "/api/weights/end", WHY, Role.EDITOR),
    ("GET", "/api/campaigns", None, Role.VIEWER),
    ("GET", "/api/drafts", None, Role.VIEWER),
    ("GET", "/api/standings", None, Role.VIEWER),
    ("GET", "/api/campaigns/{id}/decisions", None, Role.VIEWER),
    ("GET", "/api/campaigns/{id}/diff", None, Role.VIEWER),
    ("PUT", "/api/campaigns/{id}/draft", {"wish": WISH, **WHY}, Role.EDITOR),
    ("POST", "/api/campaigns/{id}/activate", WHY, Role.EDITOR),
    ("POST", "/api/campaigns/{id}/schedule", WHY, Role.EDITOR),
    ("POST", "/api/campaigns/{id}/end", WHY, Role.EDITOR),
    ("GET", "/api/books", None, Role.VIEWER),
    ("GET", "/api/books/{version}", None, Role.VIEWER),
    ("GET", "/api/books/diff?old=1&new=1", None, Role.VIEWER),
    ("POST", "/api/books/rollback", {"version": 1, **WHY}, Role.EDITOR),
    ("GET", "/api/audit", None, Role.VIEWER),
    ("GET", "/api/tokens", None, Role.APPROVER),
    ("POST", "/api/tokens", {"name": "new", "role": "viewer"}, Role.APPROVER),
    ("DELETE", "/api/tokens/{name}", None, Role.APPROVER),
    ("POST", "/api/preview", {"wish": {"order": 5}}, Role.VIEWER),
    ("GET", "/api/effect", None, Role.VIEWER),
    ("GET", "/api/integrity?limit=0", None, Role.VIEWER),
    ("POST", "/api/integrity/release", {"window": 0}, Role.EDITOR),
    ("GET", "/api/training?last=0", None, Role.VIEWER),
)  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """A console that asks for tokens; nothing listens where Kafka should be."""
    folder: Path = tmp_path_factory.mktemp("api")
    connections = Connections(database=f"sqlite:///{folder / 'api.db'}", kafka=f"127.0.0.1:{free_port()}")
    app = create_app(connections, ConsoleSettings(), DeskSettings(), facts)
    app.state.office.publish = lambda: "Kafka is not part of this test"
    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with listening(app, "off") as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def tokens(app: FastAPI) -> dict[str, str]:
    """The secret of each role, one that was revoked, and what is no token."""
    kept = Tokens(app.state.engine)
    secrets = {str(role): kept.create(f"the-{role}", role, ROOT) for role in Role}
    secrets["revoked"] = kept.create("gone", Role.APPROVER, ROOT)
    kept.revoke("gone", ROOT)
    return secrets | {"none": "", "wrong": "x" * 43}


def ask(client: httpx.Client, secret: str, method: str, path: str, body: Any = None) -> httpx.Response:
    path = path.replace("{id}", "sale").replace("{version}", "1").replace("{name}", "nobody")
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return client.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("who", ["none", "wrong", "revoked", *map(str, Role)])
@pytest.mark.parametrize(("method", "path", "body", "needed"), ENDPOINTS, ids=[f"{m} {p}" for m, p, _, _ in ENDPOINTS])
def test_each_endpoint_lets_in_whom_it_declares(
    client: httpx.Client, tokens: dict[str, str], method: str, path: str, body: Any, needed: Role, who: str
) -> None:
    """401 without a good token, 403 for a role that is not enough, else anything but these."""
    got = ask(client, tokens[who], method, path, body)
    if who in ("none", "wrong", "revoked"):
        kind = "Unauthorised" if who == "none" else "UnknownToken"
        assert (got.status_code, got.headers["www-authenticate"], got.json()["kind"]) == (401, "Bearer", kind)
    elif not Role(who).may(needed):
        assert got.status_code == 403 and got.json()["kind"] == "Forbidden" and f"role {needed}" in got.json()["error"]
    else:
        assert got.status_code not in (401, 403), got.text


def test_no_endpoint_is_left_out_and_each_declares_its_role(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    declared = {(method.upper(), path): told.get("x-role") for path, ways in paths.items() for method, told in ways.items()}
    listed = {(method, path.partition("?")[0]): str(role) for method, path, _, role in ENDPOINTS}
    assert declared == listed


def test_what_needs_an_approver_inside_is_refused_to_an_editor(client: httpx.Client, tokens: dict[str, str]) -> None:
    """Overriding a bound takes more than the endpoint does."""
    body = {"changes": {"order": 90}, "why": "much", "override": True}
    assert ask(client, tokens["editor"], "POST", "/api/weights", body).status_code == 403
    assert ask(client, tokens["approver"], "POST", "/api/weights", body).status_code == 200


def test_a_campaign_over_http(client: httpx.Client, tokens: dict[str, str]) -> None:
    """Drafted, a draft of somebody who looked away is refused with what changed, activated, ended; the audit has it."""
    editor = tokens["editor"]
    body = {"wish": WISH, "why": "sell", "expected_revision": 0}
    made = ask(client, editor, "PUT", "/api/campaigns/autumn/draft", body)
    assert made.status_code == 200 and made.json()["decision"]["state"] == "draft"
    late = ask(client, editor, "PUT", "/api/campaigns/autumn/draft", body).json()
    assert (
        late["kind"] == "Superseded"
        and late["who"] == "the-editor"
        and {"field": "order", "old": None, "new": 8.0} in late["changes"]
    )
    done = ask(client, editor, "POST", "/api/campaigns/autumn/activate", {"why": "go", "expected_revision": 1}).json()
    assert (done["published"], done["acted"]["decision"]["state"]) == (False, "active")
    assert "autumn" in [c["id"] for c in ask(client, editor, "GET", "/api/weights").json()["campaigns"]]
    assert "autumn" in [s["subject"] for s in ask(client, editor, "GET", "/api/campaigns?state=active").json()]
    assert ask(client, editor, "GET", "/api/campaigns?state=draft").json() == []
    stands = {one["subject"]: one for one in ask(client, editor, "GET", "/api/standings").json()}["autumn"]
    assert (stands["state"], stands["draft_told"]) == ("active", None)
    assert stands["live_told"] == {"period": "always", "sets": "categories shoes, order 8"}
    ask(client, editor, "POST", "/api/campaigns/autumn/end", {"why": "sold"})
    audit = ask(client, editor, "GET", "/api/audit?subject=autumn").json()
    assert [a["action"] for a in audit] == ["end", "activate", "draft"]
    wrong = ask(client, editor, "PUT", "/api/campaigns/autumn/draft", {"wish": WISH | {"order": -1}, "why": "x"}).json()
    assert wrong["kind"] == "InvalidWeight" and wrong["bound"] == "a number from 0 to 100" and wrong["value"] == -1
    assert ask(client, editor, "GET", "/api/campaigns/none/decisions").json()["kind"] == "NotFound"


def test_a_token_over_http(client: httpx.Client, tokens: dict[str, str]) -> None:
    made = ask(client, tokens["approver"], "POST", "/api/tokens", {"name": "zoe", "role": "editor"})
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert ask(client, secret, "GET", "/api/me").json() == {"name": "zoe", "role": "editor"}
    assert secret not in ask(client, tokens["approver"], "GET", "/api/tokens").text
    assert ask(client, tokens["approver"], "DELETE", "/api/tokens/zoe").json()["revoked_ms"] > 0
    assert ask(client, secret, "GET", "/api/me").status_code == 401
    again = ask(client, tokens["approver"], "POST", "/api/tokens", {"name": "zoe", "role": "editor"})
    assert again.status_code == 409 and again.json()["kind"] == "Conflict"


def test_what_no_endpoint_takes_is_refused_in_the_same_form(client: httpx.Client, tokens: dict[str, str]) -> None:
    """Another method, another path; and numbers that JSON does not have."""
    wrong = ask(client, tokens["editor"], "DELETE", "/api/weights")
    assert (wrong.status_code, wrong.json()["kind"], wrong.json()["value"]) == (405, "InvalidRequest", "DELETE /api/weights")
    assert wrong.headers["allow"] and wrong.json()["bound"] == f"with {wrong.headers['allow']}"
    assert ask(client, tokens["editor"], "GET", "/api/nowhere").json()["remedy"] == "look at /openapi.json"
    about = {"Authorization": f"Bearer {tokens['editor']}", "Content-Type": "application/json"}
    for number in ("NaN", "-Infinity", "1e999", "-1e999"):
        raw = f'{{"changes": {{"order": {number}}}, "why": "why"}}'
        said = client.post("/api/weights", content=raw, headers=about)
        assert (said.status_code, said.json()["kind"], said.json()["value"]) == (422, "InvalidWeight", number)
        assert said.json()["what"] == "changes.order" and said.json()["bound"] == "a finite number"
    raw = f'{{"changes": {{"order": {"9" * 400}}}, "why": "why"}}'
    told = client.post("/api/weights", content=raw, headers=about).json()
    assert (told["what"], told["kind"], told["value"]) == ("changes.order", "InvalidWeight", "9" * 200 + "...")
