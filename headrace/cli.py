"""The command line. Each command is a few lines here; the work is in the rooms."""

from __future__ import annotations

import sys

import typer

from headrace.commands import (
    ablate,
    campaigns,
    data,
    identifiers,
    integrity,
    live,
    operate,
    preview,
    quarantine,
    relevance,
    schemas,
    services,
    tokens,
    training,
    weights,
)
from headrace.commands.wrong_options import Commands
from headrace.logs import configure_logs
from headrace.terminal import coloured, terminal
from schemas.errors import HeadraceError, InvalidValue

app = typer.Typer(
    name="headrace",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # a client's options are among them
    help="""Lead a shop's search traffic to a learner: Kafka events in, TPMA-GRPO checkpoints out, and a search server
that is on the new weights seconds later.

First steps: [bold]headrace demo[/] shows the whole loop on this machine in five minutes. [bold]headrace doctor[/] checks what
is here. [bold]headrace up[/] runs everything until Ctrl-C; then try [bold]headrace weights set relevance=2 --why precision[/]
in a second terminal. Point at your own services with HEADRACE_KAFKA, HEADRACE_REDIS and HEADRACE_DATABASE.""",
)

for module in (live, services, data, operate, training, ablate):
    module.register(app)
preview.register(weights.app, campaigns.app)
app.add_typer(weights.app, name="weights")
app.add_typer(relevance.app, name="relevance")
app.add_typer(identifiers.app, name="identifiers")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(tokens.app, name="tokens")
app.add_typer(integrity.app, name="integrity")
app.add_typer(schemas.app, name="schemas")


def main() -> None:
    """Entry point: errors of Headrace end with one line and status 1, a wrong value with status 2."""
    configure_logs()
    try:
        app()
    except InvalidValue as error:
        _fail(error, 2)
    except HeadraceError as error:
        _fail(error, 1)


def _fail(error: HeadraceError, status: int) -> None:
    terminal(stderr=True).print(coloured((type(error).__name__, "red"), f": {error}"), soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
