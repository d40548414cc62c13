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
