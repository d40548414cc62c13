"""The verdicts on the log that training learns from, over HTTP, and letting a broken window pass."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from msgspec import Meta

from console.api.access import Editor, Viewer
from console.api.described import Reason, answer, body_of, described
from console.api.office import Office
from schemas.decisions import Role
from schemas.integrity import Verdict
from streams.integrity.aside import SentAgain
from streams.integrity.reading import verdicts

#: Event time (ms).
Moment = Annotated[int, Meta(ge=0, le=2**53)]


class ReleaseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The window by its start, as `GET /api/integrity` has it. Its examples are learned; with ``new_normal`` later windows are
    besides judged against this one alone, for what broke in it: how it was before may then be judged broken, and the same fault
    is not found again."""

    window: Moment
    why: Reason
    new_normal: bool = False


class Released(SentAgain, frozen=True, kw_only=True):
    """The window, and what became of the examples that had been put aside: sent to the learner once more, or kept by windows
    that are still broken."""

    window: int


def routes(office: Office) -> APIRouter:
    """`/api/integrity`."""
    router = APIRouter(tags=["integrity"])

    @router.get("/api/integrity", summary="Verdicts, the newest last", **described(Role.VIEWER, list[Verdict]))
    def windows(_: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 24) -> Response:
        return answer(verdicts(office.connections)[-limit:])

    @router.post(
        "/api/integrity/release", summary="Let a broken window pass", **described(Role.EDITOR, Released, ReleaseBody)
    )
    def release(actor: Editor, asked: Annotated[ReleaseBody, Depends(body_of(ReleaseBody))]) -> Response:
        done = office.release(asked.window, actor, asked.why, asked.new_normal)
        return answer(Released(**msgspec.structs.asdict(done), window=asked.window))

    return router
