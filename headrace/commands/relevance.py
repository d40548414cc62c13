"""`headrace relevance`: the scorer that gives relevance tiers, trained, shown and put in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from headrace.commands.common import JsonOption, RunOption, console, emit, open_run
from headrace.commands.watching import watched

if TYPE_CHECKING:
    from reward.relevance_report import RelevanceReport

app = typer.Typer(help="Train the scorer of relevance tiers, show how good one is, and put one in force.")

StoreOption = Annotated[
    str, typer.Option("--store", help="Artefact store (fsspec URL) that belongs to no run; default with --data: ./store.")
]
TIERS = ("0 irrelevant", "1 mismatch", "2 related", "3 excellent")


@app.command()
def train(
    data: Annotated[
        str, typer.Option("--data", help="`shop`, or a folder with items, queries and judgments; default: the run's data.")
    ] = "",
    store: StoreOption = "",
    items: Annotated[
        int | None, typer.Option("--items", min=100, help="Items of the built-in shop.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of split and network; default: the run's.")] = None,
    splits: Annotated[int, typer.Option("--splits", min=1, max=50, help="Splits of the judged queries to report on.")] = 3,
    endpoint: Annotated[
        str, typer.Option("--endpoint", help="Calibrate the model at this http address instead of training one.")
    ] = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Train on judged pairs, report on queries held out beside BM25 and cosine, and keep the scorer in the store.

    It is not in force before `headrace relevance use`.
    """
    import time

    from headrace.relevance_work import open_labelled, train_scorer
    from headrace.settings import load_settings
    from schemas.errors import InvalidRequest
    from schemas.store import Store

    if (store or items) and not data:
        raise InvalidRequest("--data", data, "given with --store and --items", "name the data, or leave both out")
    settings = load_settings() if data else open_run(run)[1]
    chosen = settings.reward.relevance.model_copy(update={"endpoint": endpoint} if endpoint else {})
    number = settings.seed if seed is None else seed
    now_ms, shop = settings.now_ms or int(time.time() * 1000), number if data else settings.seed  # a run's shop is its own
    labelled = open_labelled(data or settings.data, settings, now_ms, shop, items)
    target = Store(store or (settings.store or "store") if data else settings.store)
    with watched("Embedding titles, then training") as tell:
        trained = train_scorer(labelled, target, chosen, number, splits, tell)
    _compare([(f"split {number + n}", report) for n, report in enumerate(trained.splits)], trained.held_out)
    _detail(trained.splits[0])
    console.print(f"version {trained.version} in {trained.store}")
    emit(trained, json)


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="A version; default: all, and the one in force in full.")] = "",
    store: StoreOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show the scorers of a store: agreement with held-out judgments, confusion of tiers, reliability of the confidence."""
    from reward.relevance import read_artefact
    from schemas.artefacts import PATH, Artefacts
    from schemas.errors import Unavailable
    from schemas.store import Store

    place = Store(store or open_run(run)[1].store)
    active = Artefacts.load(place).relevance if place.exists(PATH) else ""
    versions = [version] if version else place.names("relevance")
    if not versions:
        raise Unavailable(f"a scorer in {place.url}", "none found", "make one with `headrace relevance train`")
    found = {name: read_artefact(place, name)[0] for name in versions}
    _compare([(f"{name} *" if name == active else name, header.report) for name, header in found.items()], None)
    if full := version or (active if active in found else "") or (versions[0] if len(versions) == 1 else ""):
        _detail(found[full].report)
    if active in found:
        console.print("* in force")
    emit({"active": active, "versions": {name: {"scorer": h.scorer, "report": h.report} for name, h in found.items()}}, json)


@app.command()
def use(
    version: Annotated[str, typer.Argument(help="A version in the run's store.")],
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Put a scorer in force: the run, which must not be up, takes it when it starts again.

    Stop the run in good order first. Steps that a killed learner has to take again would be taken with the new tiers.
    """
    from headrace.relevance_work import put_in_force

    artefacts = put_in_force(*open_run(run), version)
    console.print(f"version {artefacts.relevance} is in force from the next start on")
    emit(artefacts, json)


def _compare(reports: list[tuple[str, RelevanceReport]], held_out: RelevanceReport | None) -> None:
    """One line a report: quadratic kappa of ours and the simple ones on the same pairs."""
    table = Table(title="Kappa on held-out judgments, theirs with our gain over it (95 %)")
    for column in ("", "kappa", "BM25", "cosine", "right", "ECE"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, r in [*reports, *([("held out", held_out)] if held_out else [])]:
        if not r.trained:
            table.add_row(name, "none", "not trained")
            continue
        table.add_row(
            name, f"{r.kappa:.3f}", _simple(r.kappa_bm25, r.gain_bm25),
            _simple(r.kappa_cosine, r.gain_cosine), f"{r.accuracy:.1%}", f"{r.calibration_error:.3f}",
        )  # fmt: skip
    console.print(table)


def _simple(kappa: float, gain: tuple[float, float]) -> str:
    return f"{kappa:.2f} {gain[0]:+.2f} {gain[1]:+.2f}".replace("0.", ".")


def _detail(report: RelevanceReport) -> None:
    """Confusion of tiers, and reliability of the confidence."""
    if report.doubt:
        console.print(report.doubt)
    if not report.trained:
        return
    table = Table("judged", *(f"scored {tier}" for tier in TIERS), title="Held-out judgments by tier")
    for name, row in zip(TIERS, report.confusion, strict=True):
        table.add_row(name, *map(str, row))
    console.print(table)
    table = Table("mean confidence", "right", "judgments", title="Reliability: is a stated confidence a probability?")
    for said, right, count in report.reliability:
        table.add_row(f"{said:.2f}", f"{right:.2f}", str(count))
    console.print(table)
