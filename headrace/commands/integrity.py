"""`headrace integrity`: is the log that training learns from healthy, and if not, why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from headrace.commands.common import JsonOption, RunOption, console, emit, open_live_run
from headrace.commands.deciding import at
from headrace.terminal import coloured
from schemas.integrity import LAST_MOMENT, moment

if TYPE_CHECKING:
    from schemas.integrity import Check, Verdict
    from streams.integrity.aside import SentAgain

app = typer.Typer(help="Verdicts on the log, window by window; let broken ones pass.")

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
        windows.add_row(moment(verdict.start), _word(verdict), ", ".join(check.name for check in verdict.failed))
    console.print(windows)
    console.print(_checks({check.name: check for verdict in found for check in verdict.checks}.values(), "Last values"))
    if not found:
        console.print("No window has been judged: none is over yet, or the integrity worker does not run.")
    elif found[-1].stands:
        since = moment(found[-1].start)
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
    console.print(_checks(verdict.checks, f"{moment(verdict.start)}: {_word(verdict)}"))
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
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the verdict and in the audit.")],
    windows: Annotated[
        list[str] | None,
        typer.Argument(help="Starts of windows: as `status` shows them (UTC), or in ms of event time.", metavar="WINDOW"),
    ] = None,
    first: Annotated[str, typer.Option("--from", help="All broken windows that begin at this time or later.")] = "",
    last: Annotated[str, typer.Option("--to", help="All broken windows that begin at this time or earlier.")] = "",
    new_normal: Annotated[
        bool,
        typer.Option(
            "--new-normal",
            help="Also judge later windows against these alone; you are told and asked first, and how to go back.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Let broken windows pass, by name or by time: training learns from them. An editor's, or an approver's.

    Later windows are judged as before, unless --new-normal says that the world has changed (a sale, a new page). Nothing
    brings back the past that it throws away. To go back, release the first window that is as it should be, and is judged
    broken for it, with --new-normal too; where such windows are judged healthy, the past mends itself.
    """
    from schemas.errors import InvalidRequest
    from streams.integrity.releasing import broken, broken_between
    from streams.integrity.releasing import release as let_pass

    if bool(windows) == bool(first or last):
        remedy = "name windows, or give --from, --to or both of them"
        raise InvalidRequest("release", "both" if windows else "neither", "exactly one of windows and times", remedy)
    here, starts = at(run, live=True), [_start(window) for window in windows or ()]
    if not windows:
        found = broken_between(here.connections, _start(first or "0"), _start(last or f"{LAST_MOMENT}"))
        starts = [verdict.start for verdict in found]
    if new_normal:
        _warn_of_new_normal(broken(here.connections, starts))
        if not yes:
            typer.confirm("Make it the new normal?", abort=True)
    done = let_pass(here.engine, here.connections, starts, here.actor, why, new_normal)
    starts = sorted(set(starts))
    _put_released(starts, done)
    emit({"windows": starts, "new_normal": new_normal, **msgspec.structs.asdict(done)}, json)


def _warn_of_new_normal(verdicts: Iterable[Verdict]) -> None:
    from streams.integrity.releasing import BACK

    newest = {check.name: (verdict, check) for verdict in verdicts for check in verdict.failed}
    console.print("From now on later windows are judged against these alone, in place of the healthy past:")
    for name, (verdict, check) in newest.items():
        told = (
            f"{check.value:.4g} as in {moment(verdict.start)}, no longer {check.expected:.4g} (it had to be {check.bound})"
        )
        console.print(f"  {name}: {told}", highlight=False)
    console.print(
        "How things were before may then be judged broken, and a fault like this one is not found again. "
        "Where only the examples are to be learned, release without --new-normal. "
        f"There is no undo. To go back, {BACK}."
    )


def _put_released(starts: list[int], done: SentAgain) -> None:
    several = f"{len(starts)} windows, from {moment(starts[0])} to {moment(starts[-1])}"
    named = moment(starts[0]) if len(starts) == 1 else several
    put_aside = done.sent_again + done.stay_aside
    console.print(
        f"released {named}; {done.sent_again} of {put_aside} examples that had been put aside were sent to the learner again",
        highlight=False,
    )
    if not done.stay_aside:
        return
    console.print(f"{done.stay_aside} stay aside", "for these windows, still broken:" if done.kept_by else "")
    for kept in done.kept_by:
        console.print(f"  {moment(kept.window)}  {kept.examples} examples", highlight=False)
    if done.kept_by:
        console.print(
            "An example is kept by every window that its page or clicks may fall into, and goes with the last one."
        )
    if done.of_none:
        console.print(
            f"{done.of_none} are of no window that is broken: `headrace quarantine list --reason broken_window` names them, "
            "`headrace quarantine replay ID...` sends them again"
        )


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


def _start(window: str) -> int:
    from schemas.errors import InvalidRequest

    if window.isdecimal():
        return int(window)
    try:
        at = datetime.fromisoformat(window)
    except ValueError as error:
        raise InvalidRequest("window", window, "a time like 2026-03-01T13:00:00, or ms", "take it from `status`") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)
