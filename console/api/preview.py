"""What a decision would do, and what one has done, over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from msgspec.structs import asdict

from console.api.access import Viewer
from console.api.described import LAST, Number, answer, body_of, described
from console.api.office import Office
from reward.desk.wishes import Wish
from reward.preview.drafts import asked_for
from reward.preview.effect import Effect
from reward.preview.results import Preview
from reward.preview.service import Previews
from reward.preview.tables import TextTable, effect_table, preview_tables
from schemas.campaigns import Slug
from schemas.decisions import DEFAULTS, Role
from schemas.errors import Unavailable

Version = Annotated[int | None, Query(ge=1, le=LAST, description="of the weights; default: the active one")]


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look at: a wish that nobody has drafted, or a revision of the subject; neither: its waiting draft."""

    subject: Slug = DEFAULTS  #: the defaults, or the id of a campaign
    wish: Wish | None = None
    revision: Number | None = None


class ShownPreview(Preview, frozen=True):
    """A preview, and the tables of it that the command line prints."""

    tables: tuple[TextTable, ...] = ()


class ShownEffect(Effect, frozen=True):
    """An effect, and the table of it that the command line prints."""

    tables: tuple[TextTable, ...] = ()


def routes(office: Office, previews: Previews | None, control_share: float) -> APIRouter:
    """`/api/preview` and `/api/effect`. ``previews`` None: this console was opened without the run's store."""
    router = APIRouter()

    def ready() -> Previews:
        if previews is None:
            raise Unavailable("the run's store", "this console was opened without one", "open it with `headrace console`")
        return previews

    @router.post(
        "/api/preview",
        summary="What a draft would do",
        tags=["preview"],
        **described(Role.VIEWER, ShownPreview, PreviewBody),
    )
    def preview(actor: Viewer, asked: Annotated[PreviewBody, Depends(body_of(PreviewBody))]) -> Response:
        body = asked_for(office.desk, asked.subject, asked.wish, asked.revision, actor.name)
        found = ready().of_draft(office.desk, body)
        return answer(ShownPreview(**asdict(found), tables=preview_tables(found)))

    @router.get("/api/effect", summary="What a version has done", tags=["preview"], **described(Role.VIEWER, ShownEffect))
    def effect(_: Viewer, version: Version = None) -> Response:
        found = ready().effect(office.desk, office.desk.book(version), control_share)
        return answer(ShownEffect(**asdict(found), tables=(effect_table(found),)))

    return router
