"""`headrace tokens`: who may use the console's API."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands.common import JsonOption, RunOption, console, emit
from headrace.commands.deciding import at, columns
from schemas.decisions import Role

app = typer.Typer(help="Make, list and revoke the tokens of the console's API.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; the audit names them by it.")],
    role: Annotated[Role, typer.Option("--role", help="What its holder may do; each role may what the one before may.")],
    run: RunOption = None,
    json: JsonOption = None,
) -> None:
    """Make a token and show its secret, once.

    Example: headrace tokens create ann --role editor
    """
    from reward.desk.tokens import Tokens

    here = at(run)
    secret = Tokens(here.engine).create(name, role, here.actor)
    console.print(f"{name} ({role}), shown this once:\n{secret}", highlight=False, soft_wrap=True)
    emit({"name": name, "role": role, "secret": secret}, json)


@app.command(name="list")
def list_tokens(run: RunOption = None, json: JsonOption = None) -> None:
    """List the tokens, without their secrets."""
    from reward.desk.gates import need
    from reward.desk.periods import shown
    from reward.desk.tokens import Tokens

    here = at(run)
    need(here.actor, Role.APPROVER, "list the tokens")
    found = Tokens(here.engine).all()
    rows = columns("name", "role", "made", "revoked", title="Tokens")
    for one in found:
        rows.add_row(one.name, str(one.role), shown(one.created_ms), shown(one.revoked_ms) if one.revoked_ms else "")
    console.print(rows)
    emit(found, json)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the token.")], run: RunOption = None, json: JsonOption = None
) -> None:
    """Make a token no good, for ever."""
    from reward.desk.tokens import Tokens

    here = at(run)
    token = Tokens(here.engine).revoke(name, here.actor)
    console.print(f"{name} is revoked")
    emit(token, json)
