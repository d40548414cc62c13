"""`headrace schemas`: the documents of the topics, and whether they may follow the released ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace.columns import put
from headrace.commands.common import JsonOption, console, emit

app = typer.Typer(
    help="Write and check the JSON Schemas and the AsyncAPI document of the topics (in the repository's root)."
)

DocsOption = Annotated[Path, typer.Option("--docs", help="Folder of the committed documents.")]
ReleasedOption = Annotated[Path, typer.Option("--released", help="Folder of the released schemas.")]
DOCS, RELEASED = Path("docs/schemas"), Path("schemas/released")


@app.command(name="list")
def list_schemas(released: ReleasedOption = RELEASED, json: JsonOption = None) -> None:
    """List every record with the versions that are read, and what changed since its release."""
    from headrace import schema_files
    from schemas.topics import TOPICS
    from schemas.versions import members, oldest, version_of

    changes = schema_files.since_release(released, schema_files.today())
    table, rows = Table("topic", "record", "writes", "reads", "since the release", title="Schemas"), []
    for topic in TOPICS:
        for record in members(topic.kind):
            version = version_of(record)
            told = [one for one in changes if (one.topic, one.record) == (topic.name, record.__name__)]
            said = "\n".join(f"{one.field} {one.rule}".strip() for one in told) or "the same"
            reads = sorted({oldest(version), version})
            table.add_row(topic.name, record.__name__, str(version), ", ".join(map(str, reads)), said)
            row = {"topic": topic.name, "record": record.__name__, "writes": version, "reads": reads}
            rows.append(row | {"since_release": list(map(str, told))})
    console.print(table)
    emit(rows, json)


@app.command()
def write(docs: DocsOption = DOCS, json: JsonOption = None) -> None:
    """Write the documents that this code says, where they are not there already."""
    from headrace import schema_files

    changed = schema_files.write(docs, schema_files.today())
    console.print(f"{docs}: {len(changed)} changed" + "".join(f"\n  {name}" for name in changed))
    emit({"changed": changed}, json)


@app.command()
def check(docs: DocsOption = DOCS, released: ReleasedOption = RELEASED, json: JsonOption = None) -> None:
    """Check that the documents are this code's, and that no record breaks its released schema."""
    from headrace import schema_files

    today = schema_files.today()
    stale = schema_files.stale(docs, today)
    changes = schema_files.since_release(released, today)
    breaks, allowed = ([str(one) for one in changes if one.breaking is which] for which in (True, False))
    for line in (*stale, *breaks):
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if not (stale or breaks):
        told = f"{len(today)} documents in {docs} are what the code says; no record breaks its schema in {released}"
        put(console, [f"{told} ({len(allowed)} allowed changes since the release)"])
    emit({"stale": stale, "breaks": breaks, "allowed": allowed}, json)
    if stale or breaks:
        raise typer.Exit(1)


@app.command()
def release(
    released: ReleasedOption = RELEASED,
    force: Annotated[
        bool, typer.Option("--force", help="Even if today's break them: nothing of the old is in use.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Make today's schemas the released ones, which all later ones must follow."""
    from headrace import schema_files

    changed = schema_files.release(released, schema_files.today(), force)
    console.print(f"{released}: {len(changed)} changed" + "".join(f"\n  {name}" for name in changed))
    emit({"changed": changed}, json)
