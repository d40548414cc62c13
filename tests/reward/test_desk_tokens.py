"""Tokens: shown once, kept as hashes, gone when revoked."""

from __future__ import annotations

import hashlib
import re

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from reward.desk.tokens import Tokens
from schemas.decisions import Actor, Role
from schemas.errors import Conflict, Forbidden, InvalidRequest, NotFound, UnknownToken
from schemas.tables import TokenRow
from tests.reward.desk_toys import ANN, EVE, NOW_MS, AtDesk, Clock


def test_a_token_is_its_holder_until_it_is_revoked(at_desk: AtDesk) -> None:
    here = at_desk()
    tokens = Tokens(here._engine, Clock())
    secret, other = tokens.create("ann", Role.EDITOR, EVE), tokens.create("vic", Role.VIEWER, EVE)
    assert re.fullmatch(r"[\w-]{43}", secret) and secret != other
    assert tokens.actor(secret) == Actor("ann", Role.EDITOR) and tokens.actor(other) == Actor("vic", Role.VIEWER)
    with Session(here._engine) as session:
        kept = session.scalars(select(TokenRow).where(TokenRow.name == "ann")).one()
        assert kept.hash == hashlib.sha256(secret.encode()).hexdigest()
    for wrong in ("", secret[:-1], secret + "x", kept.hash):
        with pytest.raises(UnknownToken):
            tokens.actor(wrong)
    assert tokens.revoke("ann", EVE).revoked_ms == NOW_MS
    with pytest.raises(UnknownToken, match="revoked"):
        tokens.actor(secret)
    assert tokens.revoke("ann", EVE).revoked_ms == NOW_MS
    assert [(t.name, t.role, bool(t.revoked_ms)) for t in tokens.all()] == [
        ("ann", "editor", True),
        ("vic", "viewer", False),
    ]
    assert [(a.action, a.subject, a.who) for a in here.audit()] == [
        ("revoke token", "ann", "eve"), ("create token", "vic", "eve"), ("create token", "ann", "eve"),
    ]  # fmt: skip


def test_names_are_taken_once_and_only_approvers_give_tokens_out(at_desk: AtDesk) -> None:
    tokens = Tokens(at_desk()._engine)
    tokens.create("ann", Role.EDITOR, EVE)
    tokens.revoke("ann", EVE)
    with pytest.raises(Conflict, match="ann"):
        tokens.create("ann", Role.APPROVER, EVE)
    for bad in ("", "a b", "x" * 65):
        with pytest.raises(InvalidRequest):
            tokens.create(bad, Role.EDITOR, EVE)
    with pytest.raises(NotFound, match="bob"):
        tokens.revoke("bob", EVE)
    for act in (lambda: tokens.create("bob", Role.VIEWER, ANN), lambda: tokens.revoke("ann", ANN)):
        with pytest.raises(Forbidden, match="approver"):
            act()
