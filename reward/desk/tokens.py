"""Tokens of the API: random secrets, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from reward.desk import gates, records
from reward.desk.outside import Clock, wall_clock
from reward.desk.words import readable
from schemas.decisions import Actor, Role, Token
from schemas.errors import Conflict, InvalidRequest, NotFound, UnknownToken
from schemas.tables import TokenRow

#: Bytes of a secret: 256 bits, so a fast hash is enough.
BYTES: Final = 32
_NAME: Final = re.compile(r"[\w.@-]{1,64}")
#: Where somebody gets a token.
REMEDY: Final = "ask an approver for one, or make one on the machine with `headrace tokens create`"
#: What to do with one that is not good.
UNKNOWN: Final = f"correct it, or take it out (on the command line: HEADRACE_TOKEN); {REMEDY}"


class Tokens:
    """The tokens of one database."""

    def __init__(self, engine: Engine, clock: Clock = wall_clock) -> None:
        self._engine, self._clock = engine, clock

    def create(self, name: str, role: Role, actor: Actor) -> str:
        """A new token; returns its secret, which nobody can look up again.

        Raises:
            Conflict: the name is taken, if only by a token that was revoked: the audit names people by it.
            InvalidRequest: no name. Forbidden: not an approver.
        """
        gates.need(actor, Role.APPROVER, "create a token")
        if not _NAME.fullmatch(name):
            raise InvalidRequest("name", name, "1 to 64 letters, digits, . _ @ -", "choose another")
        secret, now_ms = secrets.token_urlsafe(BYTES), self._clock()
        try:
            with Session(self._engine) as session, session.begin():
                session.add(TokenRow(name=name, role=role, hash=_hash(secret), created_ms=now_ms, revoked_ms=0))
                session.flush()
                records.add_line(session, actor, "create token", name, f"role {role}", now_ms)
        except IntegrityError as error:
            raise Conflict(f"the name {name}", "another token, good or revoked", "choose another name") from error
        return secret

    def revoke(self, name: str, actor: Actor) -> Token:
        """Make a token no good, for ever. Revoking twice is harmless.

        Raises:
            NotFound: there is none of the name. Forbidden: not an approver. InvalidRequest: a name that no text can be.
        """
        gates.need(actor, Role.APPROVER, "revoke a token")
        readable("token", name)
        with Session(self._engine) as session, session.begin():
            row = session.get(TokenRow, name)
            if row is None:
                raise NotFound("token", name, "the name of a token", "look it up with `headrace tokens list`")
            if not row.revoked_ms:
                row.revoked_ms = self._clock()
                records.add_line(session, actor, "revoke token", name, "revoked", row.revoked_ms)
            return _token(row)

    def all(self) -> list[Token]:
        """Every token, by name."""
        with Session(self._engine) as session:
            return list(map(_token, session.scalars(select(TokenRow).order_by(TokenRow.name))))

    def actor(self, secret: str) -> Actor:
        """Who holds this secret.

        Raises:
            UnknownToken: nobody, or the token was revoked.
        """
        given, found = _hash(secret), None
        with Session(self._engine) as session:
            for row in session.scalars(select(TokenRow).where(TokenRow.revoked_ms == 0)):
                if hmac.compare_digest(row.hash, given):
                    found = Actor(row.name, Role(row.role))
        if found is None:
            raise UnknownToken("the token is not known, or revoked", UNKNOWN)
        return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: TokenRow) -> Token:
    return Token(row.name, Role(row.role), row.created_ms, row.revoked_ms)
