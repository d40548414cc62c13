"""`headrace integrity`: is the log that training learns from healthy, and if not, why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.commands.deciding import at
from headrace.terminal import coloured

if TYPE_CHECKING:
    from schemas.integrity import Check, Verdict

app = typer.Typer(help="Verdicts on the log, window by window; let a broken one pass.")

WindowArgument = Annotated[
    str, typer.Argument(help="Start of the window: as `status` shows it (UTC), or in ms of event time.", metavar="WINDOW")
]


@app.command()
def status(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many windows.")] = 24,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """The newest windows with what is broken in them, and each check's last value against its bound.

    Training waits for healthy windows; the posterior counts take in the clicks of broken ones, too: from which snapshot on is
    said beneath.
    """
    from streams.integrity.reading import counted_from, verdicts

    _, settings = open_live_run(run, kafka_alone=True)
    found = verdicts(settings.connections)
    windows = Table("window (UTC)", "verdict", "broken checks", title="Windows")
    for verdict in found[-limit:]:
        windows.add_row(_time(verdict.start), _word(verdict), ", ".join(check.name for check in verdict.failed))
    console.print(windows)
    console.print(_checks({check.name: check for verdict in found for check in verdict.checks}.values(), "Last values"))
    if not found:
        console.print("No window has been judged: none is over yet, or the integrity worker does not run.")
    elif found[-1].stands:
        since = _time(found[-1].start)
        console.print(coloured(("The log is broken", "red"), f" since {since}: `headrace integrity show` says more."))
    if broken := [verdict for verdict in found[-limit:] if verdict.stands]:
        version = counted_from(settings.connections, broken[0].start)
        since = "the next snapshot" if version is None else f"snapshot {version}"
        days = settings.reward.posterior.half_life_days
        console.print(
            f"The posterior CTR counts what {len(broken)} broken windows told, from {since} on; "
            f"it weighs half after {days:g} days. Labels that are repaired (`headrace switch-topics`) take it back."
        )
    emit(found[-limit:], json)


@app.command()
def show(window: WindowArgument, run: RunOption = None, json: JsonOption = None) -> None:
    """One window: every check with value, bound and remedy, and the events that a broken one names."""
    from streams.integrity.reading import find

    _, settings = open_live_run(run, kafka_alone=True)
    verdict = find(settings.connections, _start(window))
    console.print(_checks(verdict.checks, f"{_time(verdict.start)}: {_word(verdict)}"))
    if verdict.released_by:
        console.print(f"released by {verdict.released_by}: {verdict.reason}")
    for check in verdict.failed:
        console.print(coloured((str(check), "red")))
        for sample in check.samples:
            where = f"{sample.topic}/{sample.partition}@{sample.offset}"
            console.print(f"  {where}  {sample.id}  {sample.detail}", highlight=False)
    emit(verdict, json)


@app.command()
def release(
    window: WindowArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the verdict and in the audit.")],
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Let a broken window pass: training learns from it, and later windows are held against it. An editor's, or an approver's."""
    from streams.integrity.releasing import release as let_pass

    here, start = at(run, live=True), _start(window)
    again = let_pass(here.engine, here.connections, start, here.actor, why)
    console.print(f"released {_time(start)}; {again} examples that had been put aside were sent to the learner again")
    emit({"window": start, "sent_again": again}, json)


def _checks(checks: Iterable[Check], title: str) -> Table:
    table = Table("check", "", "value", "expected", "must be", "observed", title=title)
    for check in checks:
        mark = coloured(("broken", "red") if check.broken else ("ok", "green"))
        table.add_row(check.name, mark, f"{check.value:.4g}", f"{check.expected:.4g}", check.bound, f"{check.observed:,}")
    return table


def _word(verdict: Verdict) -> str:
    if not verdict.broken:
        return "healthy"
    return "released" if verdict.released_by else "broken"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _start(window: str) -> int:
    from schemas.errors import InvalidRequest

    if window.isdecimal():
        return int(window)
    try:
        at = datetime.fromisoformat(window)
    except ValueError as error:
        raise InvalidRequest("window", window, "a time like 2026-03-01T13:00:00, or ms", "take it from `status`") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)
