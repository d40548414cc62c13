"""What the console's page does with what people type and what the API answers: its own script, in an engine of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from py_mini_racer import MiniRacer

from console.app import page_of
from console.settings import ConsoleSettings

BROWSER = Path(__file__).with_name("browser.js")
ACTIVE = {"version": 1, "relevance": 1.0, "ctr": 1.0, "click": 3.0, "order": 4.0, "author": "headrace"}
REFUSED = {"error": "the share of relevance is 0.02", "kind": "WorthlessRelevance"}


class Page:
    """The page of an open console that shows `ACTIVE`, in front of ann."""

    def __init__(self) -> None:
        self._engine = MiniRacer()
        self._engine.eval(BROWSER.read_text())
        [script] = re.findall(r"<script>(.*)</script>", page_of(ConsoleSettings(access="open")), re.DOTALL)
        self._engine.eval(script)
        self.answer("api/weights", ACTIVE)
        self.type(author="ann")

    def do(self, script: str) -> Any:
        return json.loads(str(self._engine.eval(f"JSON.stringify(({script}) ?? null)")))

    def type(self, **fields: str) -> None:
        for name, text in fields.items():
            self.do(f"known.form.elements[{name!r}].value = {json.dumps(text)}")

    def asked(self, path: str) -> list[Any]:
        """Bodies of the calls of a path that has no answer yet, the oldest first."""
        return list(self.do(f"calls.filter(c => c.path === {path!r}).map(c => c.body)"))

    def answer(self, path: str, data: Any, number: int = 0, ok: bool = True) -> None:
        """The ``number``-th call of this path that waits is answered."""
        found = f"calls.splice(calls.indexOf(calls.filter(c => c.path === {path!r})[{number}]), 1)[0]"
        self._engine.eval(f"{found}.answer({json.dumps(ok)}, {json.dumps(data)})")

    def seen(self, name: str) -> str:
        return str(self.do(f"seen(known[{name!r}])"))

    def save(self) -> None:
        self._engine.eval("known.form.onsubmit({ preventDefault() {} })")

    def look(self) -> None:
        self._engine.eval("known.look.onclick()")


def decision(subject: str, revision: int, at_ms: int, **body: Any) -> dict[str, Any]:
    """As the API has it, as far as the page asks."""
    times = {"starts_ms": 0, "ends_ms": 0}
    about = {"who": "ann", "why": "why", "at_ms": at_ms, "approved_by": "", "override": False}
    return {"subject": subject, "revision": revision, "body": {"name": subject, **times, **body}, **about}


def standing(subject: str, state: str, live: Any = None, draft: Any = None) -> dict[str, Any]:
    told = [{"period": f"period of {subject}", "sets": f"sets of {subject}"} if one else None for one in (live, draft)]
    newest = max(one["revision"] for one in (live, draft) if one)
    words = {"live_told": told[0], "draft_told": told[1]}
    return {"subject": subject, "state": state, "revision": newest, "live": live, "draft": draft, **words}


@pytest.fixture
def page() -> Page:
    return Page()


def preview(title: str) -> dict[str, Any]:
    table = {"title": title, "columns": [], "rows": [], "caption": ""}
    about = {"current": 1, "pages": 5, "queries": 2, "from_ms": 0, "to_ms": 0}
    return {"tables": [table], "warnings": [f"warned of {title}"], **about}


def test_an_empty_field_is_named_and_nothing_is_asked(page: Page) -> None:
    """It is no weight of 0, neither for a preview nor for a save."""
    for act in (page.look, page.save):
        page.type(order=" ", ctr="2")
        act()
        assert "order has none" in page.seen("said")
        assert page.asked("api/preview") == []
        assert page.asked("api/weights") == []
    page.type(order="0")
    page.look()
    assert page.asked("api/preview") == [{"wish": {"ctr": 2, "order": 0}}]
    assert page.seen("said").strip() == ""


def test_a_slow_answer_does_not_take_the_place_of_a_newer_one(page: Page) -> None:
    """Two previews: the second is answered first and stays, whether the first brings tables or a refusal."""
    for ok, late in ((True, preview("first")), (False, {"error": "first"})):
        for order in ("8", "9"):
            page.type(order=order)
            page.look()
        page.answer("api/preview", preview("second"), number=1)
        page.answer("api/preview", late, ok=ok)
        assert page.asked("api/preview") == []
        told = " ".join(page.seen(name) for name in ("preview", "warnings", "looked"))
        assert "second" in told and "5 pages of 2 queries" in told and "first" not in told


def test_what_an_approver_may_override_is_offered_with_its_reason(page: Page) -> None:
    """Refused for worthless relevance: the same save again with the override and the reason that was typed, but once."""
    page.type(relevance="0.01", reason="sale")
    page.do('replies.push("the owner wants it") && null')
    page.save()
    first = {"changes": {"relevance": 0.01}, "why": "sale", "expected_version": 1}
    assert page.asked("api/weights") == [first]
    page.answer("api/weights", REFUSED, ok=False)
    [[question, proposed]] = page.do("questions")
    assert REFUSED["error"] in question and "approver" in question and proposed == "sale"
    assert page.asked("api/weights") == [first | {"why": "the owner wants it", "override": True}]
    page.answer("api/weights", {"error": "bob is an editor", "kind": "Forbidden"}, ok=False)
    assert page.asked("api/weights") == [] and "bob is an editor" in page.seen("said")


def test_what_nobody_may_override_and_what_is_not_wanted_stay_refused(page: Page) -> None:
    """No question for another refusal; without a reason nothing is sent again, and the refusal stays in sight."""
    page.type(relevance="0.01", reason="sale")
    for answer, questions in (({"error": "stale", "kind": "Superseded"}, 0), (REFUSED, 1)):
        page.save()
        page.answer("api/weights", answer, ok=False)
        assert page.asked("api/weights") == [] and answer["error"] in page.seen("said")
        assert len(page.do("questions")) == questions


def test_what_is_in_force_stands_above_what_is_over_and_can_be_ended(page: Page) -> None:
    """Defaults with a period are among it, and the form says so; those without one are the form's own."""
    bold = standing("sale", "active", decision("sale", 2, 0, name="<b>Sale</b>"), decision("sale", 3, 0))
    periodic = decision("weights", 4, 0, ends_ms=9)
    page.answer(
        "api/standings", [standing("old", "ended", decision("old", 2, 0)), bold, standing("weights", "active", periodic)]
    )
    shown = page.seen("campaigns")
    assert shown.index("sale") < shown.index("the defaults") < shown.index("old")
    assert "<b>Sale</b>" in shown and "sets of sale" in shown and "period of old" in shown
    assert page.seen("over").startswith("in force over these: sets of weights, period of weights")
    assert page.do("known.campaigns.children.map(row => row.children.at(-1).children.length)") == [1, 1, 0]
    page.do('replies.push("sold out") && null')
    page.do("known.campaigns.children[0].children.at(-1).children[0].onclick() ?? null")
    assert page.asked("api/campaigns/sale/end") == [{"why": "sold out", "expected_revision": 3}]


def test_an_empty_run_says_that_it_is(page: Page) -> None:
    page.answer("api/standings", [standing("weights", "active", decision("weights", 1, 0))])
    page.answer("api/audit?limit=50", [])
    assert "weights above hold everywhere" in page.seen("campaigns") and "none waits" in page.seen("drafts")
    assert "nobody has decided" in page.seen("audit") and page.seen("over").strip() == ""


def test_a_draft_is_acted_on_as_it_was_seen(page: Page) -> None:
    """With its own revision: another who was quicker is told, and a start to come is waited for."""
    later = decision("later", 2, 0, starts_ms=9e15)
    page.answer("api/standings", [
        standing("later", "draft", draft=later), standing("weights", "active", decision("weights", 5, 0), decision("weights", 3, 0)),
    ])  # fmt: skip
    for row, path, revision in ((0, "api/campaigns/later/schedule", 2), (1, "api/weights/activate", 3)):
        page.do('replies.push("go") && null')
        page.do(f"known.drafts.children[{row}].children.at(-1).children[0].onclick() ?? null")
        assert page.asked(path) == [{"why": "go", "expected_revision": revision}]
    page.type(order="9", reason="more orders")
    page.do("known.draft.onclick() && null")
    assert page.asked("api/weights/draft") == [{"wish": {"order": 9}, "why": "more orders", "expected_revision": 5}]


def test_a_line_of_the_audit_says_who_did_what_and_why(page: Page) -> None:
    changes = [{"field": "order", "old": None, "new": 8.0}, {"field": "owner", "old": "ann", "new": "<i>bob</i>"}]
    line = {"id": 3, "at_ms": 0, "who": "ann", "role": "editor", "action": "end", "subject": "sale", "why": "because"}
    page.answer("api/audit?limit=50", [line | {"changes": changes, "override": True}])
    shown = page.seen("audit")
    for told in ("ann (editor)", "end sale with override", "order none → 8; owner ann → <i>bob</i>", "because"):
        assert told in shown


def test_the_page_knows_the_role_of_who_looks(page: Page) -> None:
    """What a viewer may not do is hidden by it."""
    page.answer("api/me", {"name": "vic", "role": "viewer"})
    assert page.do("document.body.dataset.role") == "viewer"
    [css] = re.findall(r"<style>(.*)</style>", page_of(ConsoleSettings()), re.DOTALL)
    assert "body[data-role=viewer] .act { display: none }" in css
