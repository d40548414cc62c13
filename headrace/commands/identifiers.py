"""`headrace identifiers`: built, judged, compared, and kept in step with the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.tree import Tree

from headrace.commands.common import JsonOption, RunOption, console, emit
from headrace.commands.identifier_tables import comparison_table, grow, items_table, price_text, quality_table, sid_text
from headrace.commands.watching import watched
from headrace.terminal import coloured

app = typer.Typer(help="Build the identifiers of a catalogue, judge them, and give new and changed items theirs.")

#: Last seed, as of the settings.
SEEDS = 2**31 - 1

DataOption = Annotated[
    str, typer.Option("--data", help="`shop`, a folder with data, or a catalogue file (parquet); default: the run's data.")
]
StoreOption = Annotated[
    str, typer.Option("--store", help="Artefact store (fsspec URL) that belongs to no run; default with --data: ./store.")
]
VersionOption = Annotated[str, typer.Option("--version", help="A version in the store; default: the one in force.")]
ItemsOption = Annotated[int | None, typer.Option("--items", min=100, help="Items of the built-in shop.", show_default=False)]
SizesOption = Annotated[
    str, typer.Option("--sizes", help="Codes of the 5 levels, as 256/64/32/128/128; default: from the number of items.")
]


@app.command()
def build(
    data: DataOption = "",
    store: StoreOption = "",
    items: ItemsOption = None,
    sizes: SizesOption = "",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=SEEDS, help="Seed of the codebooks; default: the run's.")
    ] = None,
    replaces: Annotated[
        str, typer.Option("--replaces", help="A version of the same store: also write the mapping from its identifiers.")
    ] = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Embed a catalogue and its queries, build identifiers, and keep them in the store as a new version.

    They are not in force: a policy has to be trained with them, which `headrace prepare` does for a new run.
    """
    from headrace.commands.identifier_opening import open_all
    from headrace.identifier_work import build as work

    source, place, settings, number = open_all(data, store, items, sizes, seed, run, live=bool(replaces))
    with watched("Embedding, then fitting") as tell:
        built = work(source, place, settings, number, replaces, tell)
    quality_table([(built.version, built.summary)])
    console.print(f"version {built.version} in {built.store}")
    if built.mapping:
        console.print(f"{built.moved:.1%} of the items have another identifier than under {replaces}: {built.mapping}")
    if built.lost:
        console.print(f"{built.lost} items that have one under {replaces} are not in these data, and have none")
    for level, (asked, got) in enumerate(zip(settings.level_sizes or (), built.level_sizes, strict=False), start=1):
        if got < asked:
            console.print(f"level {level} has {got} codes, {asked} were asked for: there is nothing to fit more on")
    emit(built, json)


@app.command()
def show(version: VersionOption = "", store: StoreOption = "", run: RunOption = None, json: JsonOption = None) -> None:
    """Show the versions of a store: level sizes, items with an identifier of their own (ICR), use of the codebooks (CUR)."""
    from headrace.commands.identifier_opening import open_place
    from headrace.identifier_place import in_force
    from schemas.errors import Unavailable
    from trainers.identifiers.build import Identifiers

    place = open_place(store, run)
    versions = [version] if version else Identifiers.versions(place.store)
    if not versions:
        raise Unavailable(f"identifiers in {place.store.url}", "none found", "make some with `headrace identifiers build`")
    found = {}
    for name in versions:
        made = Identifiers.load(place.store, name)
        found[name] = {"level_sizes": made.level_sizes, "quality": made.quality}
    quality_table(list(found.items()))
    active = in_force(place.store)
    if active in found:
        console.print(f"{active} is in force")
    emit({"active": active, "versions": found}, json)


@app.command()
def assign(
    changes: Annotated[
        Path | None,
        typer.Argument(
            help='JSON lines: {"item"} with "title", "category", "brand" or "price", or with "removed": true; or use the options below.',
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    item: Annotated[str, typer.Option("--item", help="One item: with --title new or retitled, with --remove gone.")] = "",
    title: Annotated[str, typer.Option("--title", help="Its title; left out: as it is.")] = "",
    category: Annotated[str, typer.Option("--category", help="Its category; left out: as it is.")] = "",
    brand: Annotated[str, typer.Option("--brand", help="Its brand; left out: as it is.")] = "",
    price: Annotated[
        float, typer.Option("--price", min=0, help="Its price; left out, or 0: as it is.", show_default=False)
    ] = 0.0,
    remove: Annotated[bool, typer.Option("--remove", help="It is removed.")] = False,
    at: Annotated[
        int | None, typer.Option("--at", min=0, help="Event time of the change, ms; default: now.", show_default=False)
    ] = None,
    version: VersionOption = "",
    store: StoreOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Give new items an identifier, retitled ones another, and free those of removed ones; no other item's changes.
    Category, brand and price are what filters, campaigns and relevance know of an item.

    With a run, which must be up, every change is published and served at once. With --store it is kept beside the version.
    One at a time: on one machine a second writer is refused, as two could give the same identifier twice.
    """  # fmt: skip
    import time

    from headrace.commands.identifier_opening import open_place
    from headrace.identifier_changes import Change, read_changes
    from headrace.identifier_changes import assign as work
    from headrace.identifier_place import choose
    from schemas.errors import InvalidRequest

    if bool(changes) == bool(item):
        raise InvalidRequest("changes", "both or neither", "a file, or --item", "name one of them")
    single = Change(item, title, category, brand, price, remove)
    if changes and single != Change(""):
        raise InvalidRequest(
            "changes", "a file and options of an item", "one of them", "put it into the file, or name the item"
        )
    asked = read_changes(changes) if changes else [single]
    place, now = open_place(store, run, live=True), int(time.time() * 1000)
    with watched("Embedding") as tell:
        given = work(place, choose(place, version), asked, now if at is None else at, now, tell)
    table = Table("item", "identifier", "freed", "title", "category", "brand", "price")
    for column in table.columns[1:3]:
        column.no_wrap = True  # the title gives way
    for record in given.records:
        sid, freed = sid_text(record.sid) or "removed", sid_text(record.freed)
        table.add_row(record.item, sid, freed, record.title, record.category, record.brand, price_text(record.price))
    console.print(table)
    console.print(f"{len(given.records)} changes in {given.published}, {given.unchanged} without effect")
    emit(given, json)


@app.command()
def inspect(
    query: Annotated[str, typer.Argument(help="What somebody searches for.")],
    breadth: Annotated[int, typer.Option("--breadth", min=1, max=100, help="Cells drawn at each level.")] = 4,
    titles: Annotated[int, typer.Option("--titles", min=0, max=100, help="Titles of a cell.")] = 3,
    version: VersionOption = "",
    store: StoreOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Draw the tree of identifiers around a query: nearest cells first, with how many items they hold and their titles."""
    from headrace.commands.identifier_opening import open_place
    from headrace.identifier_changes import check_text
    from headrace.identifier_place import choose
    from headrace.identifier_work import encoder_of, open_life
    from schemas.errors import InvalidRequest
    from trainers.identifiers.neighbourhood import neighbourhood

    if not query.strip():
        raise InvalidRequest("query", query, "a text that is not empty", "say what is searched for")
    check_text("query", query)
    place = open_place(store, run, tell=True)
    life = open_life(place, choose(place, version))
    made = life.identifiers
    emb_1D = made.enhancer.enhance([query], encoder_of(place.settings).encode([query]))
    sids_NL, names = life.present()
    root = neighbourhood(made.codebook, emb_1D[0], sids_NL, names, breadth, titles)
    own = tuple(made.codebook.encode(emb_1D)[0].tolist())
    keywords = ", ".join(f"{phrase.text} ({phrase.type})" for phrase in made.enhancer.lexicon.keywords(query)) or "none"
    tree = Tree(coloured((query, "bold"), f"  {sid_text(own)}  keywords: {keywords}  ({root.items} items)"))
    grow(tree, root)
    console.print(tree)
    console.print("● on the query's own path")
    emit({"query": query, "sid": own, "keywords": keywords, "tree": root}, json)


@app.command("items")
def items_now(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ITEM]...", help="Ids of items.", show_default=False)] = None,
    below: Annotated[str, typer.Option("--below", help="Also all whose identifier begins so: 3, or 3-17.")] = "",
    version: VersionOption = "",
    store: StoreOption = "",
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Show items as they are now: identifier, title, category, brand and price, with what `assign` has changed since the build."""
    from headrace.commands.identifier_opening import open_place
    from headrace.identifier_items import items_of, prefix
    from headrace.identifier_place import choose
    from headrace.identifier_work import open_life
    from schemas.errors import InvalidRequest

    if not (names or below):
        raise InvalidRequest("items", "none", "ids of items, or --below", "name what is to be shown")
    place = open_place(store, run, tell=True)
    chosen = choose(place, version)
    life = open_life(place, chosen)
    found = items_of(life, names or [], prefix(below, life.identifiers.level_sizes) if below else None)
    if found:
        items_table(found)
    else:
        console.print(f"no item's identifier begins with {below} now")
    emit({"version": chosen, "items": found}, json)


@app.command()
def compare(
    data: Annotated[
        str, typer.Option("--data", help="`shop`, or a folder with data and a log; default: the run's data.")
    ] = "",
    store: StoreOption = "",
    items: ItemsOption = None,
    sizes: SizesOption = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Seeds that every method is fitted with.")] = 3,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Candidates of a query.")] = 100,
    vae_steps: Annotated[int, typer.Option("--vae-steps", min=1, help="Updates of the RQ-VAE.")] = 4_000,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=SEEDS, help="First seed; default: the run's.")] = None,
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Fit our identifiers, ours without keywords, plain RQ k-means and RQ-VAE, and measure them side by side.

    Recall: items are ranked by the length of the prefix that they share with the query's identifier, equal ones in random
    order; the share of a query's clicked items among the first --budget, in expectation, mean over queries and seeds.
    """
    from headrace.commands.identifier_opening import open_all
    from headrace.identifier_comparison import Embedded, check_clicks
    from headrace.identifier_comparison import compare as work
    from headrace.identifier_work import embed, encoder_of
    from headrace.relevance_work import embedded
    from trainers.identifiers.rqvae import RqVaeSettings

    source, place, settings, number = open_all(data, store, items, sizes, seed, run)
    check_clicks(source)  # before the embedding, which takes its time
    encoder = encoder_of(place.settings)
    with watched("Embedding") as tell:
        emb = Embedded(embedded(source.catalogue, encoder, place.store, tell), embed(encoder, source.queries, tell))
    with watched("Fitting") as tell:
        found = work(source, emb, settings, RqVaeSettings(steps=vae_steps), range(number, number + seeds), budget, tell)
    comparison_table(found)
    emit(found, json)


@app.command()
def drift(version: VersionOption = "", store: StoreOption = "", run: RunOption = None, json: JsonOption = None) -> None:
    """Say whether the codebook still fits the items that came after it, and which bound says no."""
    from headrace.commands.identifier_opening import open_place
    from headrace.identifier_place import choose
    from headrace.identifier_work import drift_of
    from trainers.identifiers.drift import DriftBounds

    place = open_place(store, run, tell=True)
    name = choose(place, version)
    with watched("Embedding") as tell:
        found = drift_of(place, name, DriftBounds(), tell)
    table = Table("", "fitted, or expected", "new", title=f"Codebook {name}")
    table.add_row("items", str(found.fitted), str(found.new))
    table.add_row("error", f"{found.error_expected:.4f}", f"{found.error_new:.4f}")
    table.add_row("in rare cells", f"{found.rare_expected:.1%}", f"{found.rare_new:.1%}")
    for level, (expected, used) in enumerate(zip(found.use_expected, found.use_new, strict=True), start=1):
        table.add_row(f"codes of level {level} in use", f"{expected:.0f}", str(used))
    console.print(table)
    for reason in found.reasons:
        console.print(reason)
    verdict = "rebuild due" if found.rebuild_due else "no rebuild due" if found.judged else "too few new items to judge by"
    console.print(coloured((verdict, "bold")))
    emit({"version": name, "verdict": verdict, "drift": found}, json)
