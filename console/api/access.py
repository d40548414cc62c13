"""Who asks, and whether they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Request

from console.api.office import Office
from reward.desk.gates import need
from reward.desk.tokens import REMEDY
from schemas.decisions import Actor, Role
from schemas.errors import InvalidRequest, Unauthorised

#: Carries the name, percent-encoded, where no tokens are asked for.
NAME_HEADER = "Headrace-Name"
#: Who looks without giving a name.
SOMEBODY = "somebody"


def needs(role: Role) -> Callable[[Request], Actor]:
    """A dependency: the one who asks, if their role is enough.

    Raises:
        Unauthorised: no token; in an open console, no name for what changes something.
        UnknownToken: a token that is not good, in an open console too.
        Forbidden: the role is not enough.
    """

    def actor(request: Request) -> Actor:
        office: Office = request.app.state.office
        secret = _secret(request)
        found = _named(request, role) if office.access == "open" and secret is None else _holder(secret, office)
        need(found, role, f"{request.method} {request.url.path}")
        _check_text(request)
        return found

    return actor


#: Who an endpoint lets in: a parameter that is the one who asks.
Viewer = Annotated[Actor, Depends(needs(Role.VIEWER))]
Editor = Annotated[Actor, Depends(needs(Role.EDITOR))]
Approver = Annotated[Actor, Depends(needs(Role.APPROVER))]


def _secret(request: Request) -> str | None:
    """The bearer token; None: there is none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None


def _holder(secret: str | None, office: Office) -> Actor:
    if secret is None:
        raise Unauthorised("a bearer token is needed", REMEDY)
    return office.tokens.actor(secret)


def _named(request: Request, role: Role) -> Actor:
    """Everybody is an approver, by the name they give."""
    name = unquote(request.headers.get(NAME_HEADER, "")).strip()
    if not name and role != Role.VIEWER:
        raise Unauthorised("who decides is not said", f"give your name in the header {NAME_HEADER}")
    if len(name) > 100 or not (name or SOMEBODY).isprintable():
        raise InvalidRequest("your name", name, "at most 100 printable characters", "give a shorter one")
    return Actor(name or SOMEBODY, Role.APPROVER)


def _check_text(request: Request) -> None:
    """No database keeps the character zero."""
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if "\0" in str(value):
            raise InvalidRequest(name, value, "text without the character zero", "take it out")
