"""Tokens over HTTP: an approver gives them out and takes them back; everybody may ask who they are."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response
from msgspec import Meta

from console.api.access import Approver, Viewer
from console.api.described import answer, body_of, described
from console.api.office import Office
from schemas.decisions import Actor, Role, Token

_NAME = r"^[A-Za-z0-9_.@\-]{1,64}$"


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a token is for."""

    name: Annotated[str, Meta(pattern=_NAME)]
    role: Role


class NewToken(msgspec.Struct, frozen=True):
    """The one time that the secret is shown."""

    name: str
    role: Role
    secret: str


def routes(office: Office) -> APIRouter:
    """Tokens, and who asks."""
    router = APIRouter(tags=["tokens"])

    @router.get("/api/me", summary="Who asks", **described(Role.VIEWER, Actor))
    def me(actor: Viewer) -> Response:
        return answer(actor)

    @router.get("/api/tokens", summary="Tokens, without their secrets", **described(Role.APPROVER, list[Token]))
    def tokens(_: Approver) -> Response:
        return answer(office.tokens.all())

    @router.post("/api/tokens", summary="A new token", **described(Role.APPROVER, NewToken, TokenBody, 201))
    def create(actor: Approver, asked: Annotated[TokenBody, Depends(body_of(TokenBody))]) -> Response:
        return answer(NewToken(asked.name, asked.role, office.tokens.create(asked.name, asked.role, actor)), 201)

    @router.delete("/api/tokens/{name}", summary="Make a token no good", **described(Role.APPROVER, Token))
    def revoke(actor: Approver, name: Annotated[str, Path(pattern=_NAME)]) -> Response:
        return answer(office.tokens.revoke(name, actor))

    return router
