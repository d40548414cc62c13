"""What can be seen at the desk: the book, each subject's standing, differences, overlaps, the audit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby

import msgspec
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from reward.desk import diffs, records, refusals
from reward.desk.books import bodies, over, with_decision
from reward.desk.meeting import overlaps
from reward.desk.outside import Clock, Facts, no_catalogue, wall_clock
from reward.desk.scopes import check_scope
from reward.desk.states import standing
from reward.desk.wishes import Wish, campaign
from reward.settings import DeskSettings
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS, AuditEntry, Change, Decision, Overlap, Standing, State
from schemas.errors import NotFound
from schemas.weights import RewardWeights


class Looks:
    """The reading half of `reward.desk.desk.Desk`."""

    def __init__(
        self, engine: Engine, settings: DeskSettings | None = None, facts: Facts = no_catalogue, clock: Clock = wall_clock
    ) -> None:
        self._engine, self._facts, self._clock = engine, facts, clock
        self.settings = settings or DeskSettings()

    def book(self, version: int | None = None) -> RewardWeights:
        """A version of the whole; None: the active one.

        Raises:
            NotFound: there is no such version.
        """
        with Session(self._engine) as session:
            return records.newest_book(session) if version is None else records.book(session, version)

    def books(self) -> list[RewardWeights]:
        """Every version, the oldest first."""
        with Session(self._engine) as session:
            return records.all_books(session)

    def standings(self, states: Iterable[State] = ()) -> list[Standing]:
        """Every subject that somebody decided about; ``states``: only those in one of them. `DRAFT` finds waiting drafts."""
        with Session(self._engine) as session:
            rows = records.decisions(session)
        found = [standing(list(own), self._clock()) for _, own in groupby(rows, key=lambda row: row.subject)]
        wanted = set(states) or set(State)
        return [one for one in found if one.state in wanted or (one.draft is not None and State.DRAFT in wanted)]

    def standing(self, subject: str) -> Standing:
        """One subject as it is now.

        Raises:
            NotFound: nobody decided about it.
        """
        return standing(self.revisions(subject), self._clock())

    def revisions(self, subject: str) -> list[Decision]:
        """Its rows, the oldest first.

        Raises:
            NotFound: nobody decided about it.
        """
        with Session(self._engine) as session:
            return found_in(records.decisions(session, subject), subject)

    def diff(self, subject: str, old: int | None = None, new: int | None = None) -> tuple[Change, ...]:
        """Between two revisions. Without ``new``: the waiting draft, else the newest; without ``old``: what acts beside the
        draft, else the revision that the new one came from.

        Raises:
            NotFound: no such revision.
        """
        rows = self.revisions(subject)
        now = standing(rows, self._clock())
        after = revision_of(rows, new) if new is not None else now.draft or rows[-1]
        before: Decision | None
        if subject == DEFAULTS and old is None and after is now.draft:
            book = self.book()
            return diffs.between(bodies(book)[DEFAULTS], over(book, after.body))
        if old is not None:
            before = revision_of(rows, old)
        elif after is now.draft:
            before = now.live
        else:
            before = next((row for row in rows if row.revision == after.parent), None)
        return diffs.between(before.body if before else None, after.body)

    def diff_books(self, old: int, new: int) -> tuple[Change, ...]:
        """Between two versions of the whole.

        Raises:
            NotFound: no such version.
        """
        return diffs.between_books(self.book(old), self.book(new))

    def overlaps(self, about: str = "", book: RewardWeights | None = None) -> tuple[Overlap, ...]:
        """Campaigns of the active book, or of ``book``, that meet from now on; ``about``: only those of one."""
        book = book or self.book()
        if len(book.campaigns) < 2:
            return ()
        return overlaps(book, self._facts(), self._clock(), about)

    def drafted(self, subject: str, revision: int | None = None) -> Campaign:
        """What a revision, or the waiting draft, wants.

        Raises:
            NotFound: no such revision, or no draft.
        """
        rows = self.revisions(subject)
        found = revision_of(rows, revision) if revision is not None else standing(rows, self._clock()).draft
        if found is None:
            raise NotFound("draft", subject, "of a subject with a waiting draft", "draft it first, or name a revision")
        return found.body

    def wished(self, subject: str, wanted: Wish, who: str) -> Campaign:
        """What a wish wants, refused as a draft of it would be.

        Raises:
            InvalidRequest: a guard; each has a class of its own in `schemas.errors`.
        """
        body = campaign(subject, wanted, who, self._clock())
        if subject != DEFAULTS:
            check_scope(body, self._facts(), self.settings)
        return body

    def book_with(self, body: Campaign) -> RewardWeights:
        """What the active book would become with it: scheduled, if it names a start to come, else activated now."""
        waits = body.starts_ms > self._clock()
        return with_decision(self.book(), body if waits else msgspec.structs.replace(body, starts_ms=0))

    def _look_up(self, subject: str = DEFAULTS, back_to: int | None = None) -> None:
        """Read the catalogue, where campaigns are asked about, before a transaction begins: as long as that is open SQLite lets
        nobody else in, not even to look."""
        if subject != DEFAULTS or any(self.book(version).campaigns for version in {None, back_to}):
            self._facts()

    def refusals(self, body: Campaign) -> tuple[str, ...]:
        """What would keep it from going live now, whoever asks (`reward.desk.refusals.foreseen`)."""
        self._look_up(body.id)
        with Session(self._engine) as session:
            return self._foreseen(session, body)

    def _foreseen(self, session: Session, body: Campaign) -> tuple[str, ...]:
        return refusals.foreseen(records.newest_book(session), body, self._facts, self.settings, self._clock())

    def audit(
        self,
        subjects: Collection[str] = (),
        who: str | None = None,
        action: str | None = None,
        since_ms: int = 0,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Who did what, the newest first; ``subjects``: only about these."""
        with Session(self._engine) as session:
            return records.audit(session, subjects, who, action, since_ms, limit)

    def told_of(self, version: int) -> str:
        """What made a version of the whole: who did what; of a rollback, what it undid."""
        with Session(self._engine) as session:
            lines = records.audit(session, book_version=version)
        if not lines:
            return ""
        one = next((line for line in lines if line.subject == DEFAULTS), lines[0])
        if one.action != "rollback":
            return f"{one.action} {one.subject} by {one.who}: {one.why}"
        return f"rollback by {one.who}: {'; '.join(map(str, one.changes))}"


def revision_of(rows: list[Decision], revision: int) -> Decision:
    """The row of a revision.

    Raises:
        NotFound: there is none.
    """
    for row in rows:
        if row.revision == revision:
            return row
    bound = f"a revision of {rows[-1].subject}, 1 to {rows[-1].revision}"
    raise NotFound("revision", revision, bound, "look it up with `headrace campaigns show`")


def found_in(rows: list[Decision], subject: str) -> list[Decision]:
    """The rows, if there are any.

    Raises:
        NotFound: there are none.
    """
    if not rows:
        raise NotFound("decision", subject, "one that somebody drafted", "look it up with `headrace campaigns list`")
    return rows
