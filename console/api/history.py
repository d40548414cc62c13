"""Versions of the whole, the way back to one, and the audit."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response

from console.api.access import Editor, Viewer
from console.api.decisions import Decided, decided
from console.api.described import LAST, Number, Reason, answer, body_of, described
from console.api.office import Office
from reward.desk.undone import undone
from schemas.decisions import AuditEntry, Change, Role
from schemas.weights import RewardWeights

Version = Annotated[int, Path(ge=1, le=LAST)]
Asked = Annotated[int, Query(ge=1, le=LAST)]
Filter = Annotated[str | None, Query(max_length=200)]


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make an earlier version's weights and campaigns the active ones, as a new version."""

    version: Number
    why: Reason
    expected_version: Number | None = None
    override: bool = False


def routes(office: Office) -> APIRouter:
    """Books and audit."""
    router = APIRouter(tags=["history"])

    @router.get("/api/books", summary="Versions, the newest first", **described(Role.VIEWER, list[RewardWeights]))
    def books(_: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        return answer(office.desk.books()[::-1][:limit])

    @router.get("/api/books/diff", summary="What differs between two", **described(Role.VIEWER, list[Change]))
    def diff(_: Viewer, old: Asked, new: Asked) -> Response:
        return answer(office.desk.diff_books(old, new))

    @router.get("/api/books/{version}", summary="One version", **described(Role.VIEWER, RewardWeights))
    def book(_: Viewer, version: Version) -> Response:
        return answer(office.desk.book(version))

    @router.post("/api/books/rollback", summary="Back to a version", **described(Role.EDITOR, Decided, RollbackBody))
    def rollback(actor: Editor, asked: Annotated[RollbackBody, Depends(body_of(RollbackBody))]) -> Response:
        saved = office.desk.rollback(asked.version, actor, asked.why, asked.expected_version, asked.override)
        assert saved.before is not None  # what it undid
        return answer(decided(office, saved, undone(saved.before, saved, asked.version)))

    @router.get("/api/audit", summary="Who did what, the newest first", **described(Role.VIEWER, list[AuditEntry]))
    def audit(
        _: Viewer,
        subject: Filter = None,
        who: Filter = None,
        action: Filter = None,
        since_ms: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        return answer(office.desk.audit((subject,) if subject else (), who, action, since_ms, limit))

    return router
