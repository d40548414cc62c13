"""What somebody typed is shown as they typed it, brackets and all, by every listing and by the errors."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace import cli
from headrace.commands import deciding
from headrace.commands.common import console
from headrace.story import Story
from headrace.terminal import terminal
from reward.desk import told
from schemas.campaigns import Campaign, Scope
from schemas.decisions import AuditEntry, Change, Decision, Overlap, Role, Standing, State
from schemas.errors import InvalidRequest

typed = st.text(st.characters(categories=("L", "N", "P", "S")) | st.sampled_from("[]/\\: a"), min_size=1).map(
    lambda text: " ".join(text.split()) or "x"
)


def printed(show: Callable[[], object]) -> str:
    """What ``show`` prints, on a terminal that is wide enough for every cell."""
    width = console.width
    console.width = 20_000
    try:
        with console.capture() as caught:
            show()
        return caught.get()
    finally:
        console.width = width


@given(typed)
@example("see [/wiki/sale]")
@example("[red]x[/red]")
@example(":smile: [b] \\[c]")
def test_listings_of_decisions_show_what_was_typed(text: str) -> None:
    """Why, name, owner, category, a person's name; in standings, revisions, changes, overlaps, warnings and the audit."""
    body = Campaign("sale", 1, text, text, Scope(categories=(text,)), order=8.0)
    made = Decision("sale", 1, 0, State.DRAFT, body, text, Role.EDITOR, text, 0)
    line = AuditEntry(1, 0, text, Role.EDITOR, "draft", text, 1, 0, text, (Change("name", None, text),), False)
    for times, show in (
        (1, lambda: deciding.show_standings([Standing("sale", State.DRAFT, 1, None, made)], "Campaigns")),
        (4, lambda: deciding.show_revisions([made], text)),
        (2, lambda: deciding.show_changes([Change("name", text, text)])),
        (2, lambda: deciding.show_overlaps([Overlap(text, "other", 1, {"order": text})])),
        (1, lambda: deciding.show_warnings([text])),
        (3, lambda: deciding.show_audit([line])),
    ):
        assert printed(show).count(text) >= times


@given(typed)
@example("[/]")
def test_errors_show_what_was_typed(text: str) -> None:
    """The one line of an error, which is not broken either: it can be searched for."""
    error, stream = InvalidRequest("name", 1, text, text), io.StringIO()
    with contextlib.redirect_stderr(stream), pytest.raises(SystemExit) as ended:
        cli._fail(error, 2)
    assert ended.value.code == 2
    assert stream.getvalue() == f"InvalidRequest: {error}\n"


@given(typed)
@example("[bold]/runs/[x]")
def test_the_story_shows_what_was_typed(text: str) -> None:
    """Stages, their notes, and lines of the demo and of `up`."""
    stream = io.StringIO()
    shown = terminal()
    shown.file, shown.width = stream, 20_000
    story = Story(shown)
    story.say(text)
    with story.stage("a", text) as stage:
        stage.update(1.0, text)
    assert stream.getvalue().count(text) >= 3


def test_commands_have_no_other_way_to_the_terminal() -> None:
    """No console of their own, and no markup within a text: the help of the command line alone is written with it."""
    folder = Path(cli.__file__).parent
    for file in folder.rglob("*.py"):
        code = file.read_text("utf-8")
        if file.name != "terminal.py":
            assert not re.search(r"(?<!\w)Console\(|from_markup|markup=True", code), file
        if file.name != "cli.py":
            assert not re.search(r"\[/?(red|green|yellow|bold|dim)?/?\](?=.*\[/\])|\[/\]", code), file


def test_numbers_are_named_once_and_all_of_them() -> None:
    assert deciding.numbers(["order=8", "click=5"]) == {"order": 8.0, "click": 5.0}
    with pytest.raises(InvalidRequest, match=r"--brand-factor is '1.2', but must be BRAND=FACTOR"):
        deciding.numbers(["1.2"], "--brand-factor", "BRAND=FACTOR", "Kelda=1.2")
    with pytest.raises(InvalidRequest, match="given once, but order is 8 before it"):
        deciding.numbers(["order=8", "order=9"])


def test_what_ended_before_it_began_has_no_period_that_runs_backwards() -> None:
    """And the defaults, whose priority is no choice, do not list it."""
    body = Campaign("sale", 1, "sale", "ann", starts_ms=86_400_000, ends_ms=3_600_000)
    assert told.period(body).startswith("never: from 1970-01-02 00:00")
    assert told.sets(Campaign("weights", 1, "weights", "weights", priority=0, click=5.0)) == "click 5"


def test_a_role_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = CliRunner().invoke(cli.app, ["tokens", "create", "ann", "--role", "boss"], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "it is 'boss', but must be one of viewer, editor, approver" in " ".join(done.output.split())


def test_a_value_of_thousands_of_digits_is_shown_by_its_ends() -> None:
    done = CliRunner().invoke(cli.app, ["campaigns", "draft", "sale", "--priority", "9" * 5_000], env={"COLUMNS": "300"})
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and len(said) < 1_000
    assert f"'{'9' * 37}...{'9' * 38}', but must be an integer" in said
