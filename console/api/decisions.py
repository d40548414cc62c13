"""The verbs of the desk over HTTP: `/api/weights` for the defaults, `/api/campaigns/{id}` for a campaign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from msgspec.structs import asdict

from console.api.access import Editor, Viewer
from console.api.described import LAST, Number, Reason, Seen, answer, body_of, described
from console.api.office import Office
from reward.desk.oddities import odd_defaults
from reward.desk.told import period, sets
from reward.desk.undone import Undone
from reward.desk.wishes import Wish
from reward.preview.service import Previews
from schemas.decisions import DEFAULTS, Acted, Change, Decision, Role, Standing, State
from schemas.weights import RewardWeights

#: A revision as a parameter.
Revision = Annotated[int | None, Query(ge=1, le=LAST)]


class DraftBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft; ``expected_revision`` is the newest that the editor has seen, 0 for none."""

    wish: Wish
    why: Reason
    expected_revision: Seen | None = None


class ActBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What brings a draft into force; an approver may ``override`` the bound on relevance."""

    why: Reason
    expected_revision: Number | None = None
    override: bool = False


class EndBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ends a decision; an approver may ``override`` the bound on relevance."""

    why: Reason
    expected_revision: Number | None = None
    override: bool = False


class SetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New values of some default weights, drafted and activated in one."""

    changes: dict[str, float]
    why: Reason
    expected_version: Number | None = None
    override: bool = False


class Done(msgspec.Struct, frozen=True):
    """What a verb did; not ``published``: it is saved, and ``note`` says why it has not gone out yet."""

    acted: Acted
    published: bool
    note: str


class Decided(msgspec.Struct, frozen=True):
    """The new version; not ``published``: it is saved, and ``note`` says why it has not gone out yet."""

    weights: RewardWeights
    published: bool
    note: str
    warnings: tuple[str, ...] = ()  #: what is allowed and seldom meant
    undone: Undone | None = None  #: of a rollback


class Told(msgspec.Struct, frozen=True):
    """A decision in the words of the command line's tables."""

    period: str
    sets: str


class ToldStanding(Standing, frozen=True):
    """Where a subject stands, with what acts and what waits in words."""

    live_told: Told | None
    draft_told: Told | None


class Detail(msgspec.Struct, frozen=True):
    """A subject with all its revisions, the oldest first."""

    standing: Standing
    revisions: list[Decision]


def routes(office: Office, previews: Previews | None) -> APIRouter:
    """Weights and campaigns; ``previews`` None: drafts are not held against stored pages."""
    router = APIRouter()
    _add_weights(router, office)
    _add_verbs(router, office, previews, "/api/weights", "the defaults", lambda: DEFAULTS)
    _add_campaigns(router, office)
    _add_verbs(router, office, previews, "/api/campaigns/{id}", "a campaign", _campaign)
    return router


def _campaign(id: Annotated[str, Path(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]) -> str:
    return id


def _add_weights(router: APIRouter, office: Office) -> None:
    @router.get("/api/weights", summary="The active version", tags=["weights"], **described(Role.VIEWER, RewardWeights))
    def active(_: Viewer) -> Response:
        return answer(office.desk.book())

    @router.post(
        "/api/weights", summary="Other defaults at once", tags=["weights"], **described(Role.EDITOR, Decided, SetBody)
    )
    def change(actor: Editor, asked: Annotated[SetBody, Depends(body_of(SetBody))]) -> Response:
        saved = office.desk.set(asked.changes, actor, asked.why, asked.expected_version, asked.override)
        return answer(decided(office, saved))


def _add_campaigns(router: APIRouter, office: Office) -> None:
    @router.get(
        "/api/standings", summary="Where every subject stands, the defaults too", tags=["campaigns"],
        **described(Role.VIEWER, list[ToldStanding]),
    )  # fmt: skip
    def standings(_: Viewer) -> Response:
        return answer([_told(one) for one in office.desk.standings()])

    @router.get(
        "/api/drafts", summary="Waiting drafts, the defaults' too", tags=["campaigns"],
        **described(Role.VIEWER, list[Standing]),
    )  # fmt: skip
    def drafts(_: Viewer) -> Response:
        return answer(office.desk.standings([State.DRAFT]))

    @router.get(
        "/api/campaigns", summary="Campaigns and where they stand", tags=["campaigns"],
        **described(Role.VIEWER, list[Standing]),
    )  # fmt: skip
    def campaigns(_: Viewer, state: Annotated[list[State], Query()] = []) -> Response:  # noqa: B006
        return answer([one for one in office.desk.standings(state) if one.subject != DEFAULTS])


def _add_verbs(
    router: APIRouter, office: Office, previews: Previews | None, prefix: str, what: str, subject: Callable[..., str]
) -> None:
    tags: list[Any] = [prefix.split("/")[2]]
    whose = Depends(subject)

    @router.get(f"{prefix}/decisions", summary=f"The life of {what}", tags=tags, **described(Role.VIEWER, Detail))
    def detail(_: Viewer, subject: str = whose) -> Response:
        return answer(Detail(office.desk.standing(subject), office.desk.revisions(subject)))

    @router.get(f"{prefix}/diff", summary="What differs", tags=tags, **described(Role.VIEWER, list[Change]))
    def diff(_: Viewer, old: Revision = None, new: Revision = None, subject: str = whose) -> Response:
        """Between two revisions; without them, between the waiting draft and what acts."""
        return answer(office.desk.diff(subject, old, new))

    @router.put(f"{prefix}/draft", summary=f"Draft {what}", tags=tags, **described(Role.EDITOR, Acted, DraftBody))
    def draft(actor: Editor, asked: Annotated[DraftBody, Depends(body_of(DraftBody))], subject: str = whose) -> Response:
        acted = office.desk.draft(subject, asked.wish, actor, asked.why, asked.expected_revision)
        strange = previews.unseen(acted.decision.body) if previews is not None else ()
        return answer(msgspec.structs.replace(acted, warnings=(*acted.warnings, *strange)))

    @router.post(f"{prefix}/activate", summary="Start it now", tags=tags, **described(Role.EDITOR, Done, ActBody))
    def activate(actor: Editor, asked: Annotated[ActBody, Depends(body_of(ActBody))], subject: str = whose) -> Response:
        return _done(office, office.desk.activate(subject, actor, asked.why, asked.expected_revision, asked.override))

    @router.post(f"{prefix}/schedule", summary="Let it start later", tags=tags, **described(Role.EDITOR, Done, ActBody))
    def schedule(actor: Editor, asked: Annotated[ActBody, Depends(body_of(ActBody))], subject: str = whose) -> Response:
        return _done(office, office.desk.schedule(subject, actor, asked.why, asked.expected_revision, asked.override))

    @router.post(f"{prefix}/end", summary="End it now", tags=tags, **described(Role.EDITOR, Done, EndBody))
    def end(actor: Editor, asked: Annotated[EndBody, Depends(body_of(EndBody))], subject: str = whose) -> Response:
        return _done(office, office.desk.end(subject, actor, asked.why, asked.expected_revision, asked.override))


def _told(one: Standing) -> ToldStanding:
    live, draft = (Told(period(at.body), sets(at.body)) if at else None for at in (one.live, one.draft))
    return ToldStanding(**asdict(one), live_told=live, draft_told=draft)


def decided(office: Office, saved: RewardWeights, undone: Undone | None = None) -> Decided:
    """A saved version on its way into the topic."""
    note = office.publish()
    return Decided(saved, not note, note, odd_defaults(saved), undone)


def _done(office: Office, acted: Acted) -> Response:
    note = office.publish()
    return answer(Done(acted, not note, note))
