"""The verbs of the desk. Each is one transaction: the revision, the new book, its record for the topic, and the audit.

Of two editors at once the database's primary keys let one through; the other looks again, and is told by the checks what
happened meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from reward.campaigns.weighing import NAMES
from reward.desk import contributors, diffs, gates, records, refusals, steps
from reward.desk.books import bodies, next_version, over, touched, with_decision, without
from reward.desk.looks import Looks, found_in
from reward.desk.meeting import overlaps
from reward.desk.oddities import moved_zone, oddities
from reward.desk.refusals import Verb
from reward.desk.scopes import check_scope
from reward.desk.states import standing, state_at
from reward.desk.undone import undone
from reward.desk.wishes import Wish, campaign, wish
from reward.desk.worth import worthless
from schemas.decisions import DEFAULTS, Acted, Actor, Change, Decision, Overlap, Role, State
from schemas.errors import Conflict, InvalidRequest, WrongState
from schemas.weights import RewardWeights

#: Tries of a transaction that others were quicker than.
TRIES: Final = 20
T = TypeVar("T")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Desk(Looks):
    """Decisions over one database. ``settings``, ``facts`` and ``clock`` as `Looks` takes them."""

    def draft(self, subject: str, wanted: Wish, actor: Actor, why: str, expected_revision: int | None = None) -> Acted:
        """Write a draft, or a new revision of it. Nothing acts yet; what would keep it from acting is told.

        Raises:
            InvalidRequest: a guard; each has a class of its own in `schemas.errors`.
            Superseded: the newest revision is not ``expected_revision``.
            Forbidden: a viewer.
        """
        gates.need(actor, Role.EDITOR, "draft")
        self._look_up(subject)

        def written(session: Session) -> Acted:
            acted = self._draft(session, subject, wanted, actor, why, expected_revision)
            return msgspec.structs.replace(acted, refusals=self._foreseen(session, acted.decision.body))

        return self._write(written)

    def activate(
        self, subject: str, actor: Actor, why: str, expected_revision: int | None = None, override: bool = False
    ) -> Acted:
        """Bring the draft into force now; or at once what was scheduled.

        Raises:
            WrongState: there is nothing to activate.
            WorthlessRelevance: and ``override`` is not given, or not an approver's.
            FourEyes, Forbidden, Superseded, InvalidRequest: as for `draft`.
        """
        self._look_up(subject)
        return self._write(
            lambda session: self._go_live(session, "activate", subject, actor, why, expected_revision, override)
        )

    def schedule(
        self, subject: str, actor: Actor, why: str, expected_revision: int | None = None, override: bool = False
    ) -> Acted:
        """Bring the draft into force at the start that it names.

        Raises:
            StartsInPast: it has passed, or there is none.
            WrongState, WorthlessRelevance, FourEyes, Forbidden, Superseded, InvalidRequest: as for `activate`.
        """
        self._look_up(subject)
        return self._write(
            lambda session: self._go_live(session, "schedule", subject, actor, why, expected_revision, override)
        )

    def end(
        self, subject: str, actor: Actor, why: str, expected_revision: int | None = None, override: bool = False
    ) -> Acted:
        """Take a campaign out of force, or out of the schedule. What it lay over holds again.

        Raises:
            WrongState: it is not in force, or these are the standing defaults.
            WorthlessRelevance: what then holds breaks the bound, and ``override`` is not given, or not an approver's.
            Forbidden, Superseded: as for `draft`.
        """
        gates.may_end(actor, override)
        self._look_up()
        return self._write(lambda session: self._end(session, subject, actor, why, expected_revision, override))

    def set(
        self, changes: dict[str, float], actor: Actor, why: str, expected_version: int | None = None, override: bool = False
    ) -> RewardWeights:
        """Draft and activate other defaults in one: the active ones with ``changes``. A draft that waits goes on waiting.

        Raises:
            InvalidRequest: an unknown name, a value out of its bounds, or nothing to change.
            Superseded: the active version is not ``expected_version``.
            FourEyes: where another must approve, draft and activation are two steps of two people.
        """
        gates.need(actor, Role.EDITOR, "set weights")
        if self.settings.four_eyes:
            raise gates.two_people(actor, "set weights alone")
        for name in changes:
            if name not in NAMES:
                raise InvalidRequest("weight", name, f"one of {', '.join(NAMES)}", "use one of these names")
        self._look_up()

        def both(session: Session) -> Acted:
            self._expect_version(session, expected_version)
            self._draft(session, DEFAULTS, wish(dict(changes)), actor, why, None, beside=True)
            acted = self._go_live(session, "activate", DEFAULTS, actor, why, None, override)
            if not acted.changes:
                raise InvalidRequest("changes", changes, "other than what is in force", "there is nothing to set")
            return acted

        book = self._write(both).book
        assert book is not None
        return book

    def rollback(
        self, version: int, actor: Actor, why: str, expected_version: int | None = None, override: bool = False
    ) -> RewardWeights:
        """Bring a whole earlier version back, as a new one. Campaigns that are thereby out become `State.ROLLED_BACK`.

        Raises:
            NotFound: there is no such version.
            Superseded, WorthlessRelevance, FourEyes, Forbidden: as for `set`.
        """
        self._look_up(back_to=version)
        return self._write(lambda session: self._rollback(session, version, actor, why, expected_version, override))

    # -- inside a transaction

    def _write(self, act: Callable[[Session], T]) -> T:
        for _ in range(TRIES):
            try:
                with Session(self._engine) as session, session.begin():
                    return act(session)
            except IntegrityError:
                continue
        raise Conflict("the desk", f"other editors, {TRIES} times in a row", "try again")

    def _draft(
        self, session: Session, subject: str, wanted: Wish, actor: Actor, why: str, expected: int | None, *,
        beside: bool = False,
    ) -> Acted:  # fmt: skip
        """``beside``: a draft that waits goes on waiting, this one is another."""
        now_ms = self._clock()
        if not _ID.fullmatch(subject):
            raise InvalidRequest(
                "id", subject, "up to 64 of a-z, 0-9 and -, beginning with a letter or digit", "choose another"
            )
        rows = records.decisions(session, subject)
        gates.expect(rows, expected)
        now = standing(rows, now_ms) if rows else None
        parent = (now.live if beside else now.draft or now.live) if now else None
        body = campaign(subject, wanted, parent.body.owner if parent else actor.name, now_ms)
        if subject != DEFAULTS:
            check_scope(body, self._facts(), self.settings)
        made = steps.revision(subject, rows, parent, State.DRAFT, body, actor, why, now_ms)
        records.add_decision(session, made)
        book = records.newest_book(session)
        changes = diffs.between(parent.body if parent else None, made.body)
        if subject == DEFAULTS:
            changes = diffs.between(bodies(book)[DEFAULTS], over(book, made.body))
        records.add_audit(session, "draft", made, changes)
        would = with_decision(book, made.body)
        odd = (*oddities(book, made.body), *moved_zone(parent.body if parent else None, made.body))
        return Acted(made, changes, self._meets(would, subject, now_ms), warnings=odd)

    def _go_live(
        self, session: Session, action: Verb, subject: str, actor: Actor, why: str, expected: int | None, override: bool
    ) -> Acted:
        now_ms = self._clock()
        rows = found_in(records.decisions(session, subject), subject)
        gates.expect(rows, expected)
        source, old = steps.source(standing(rows, now_ms), action), records.newest_book(session)
        gates.may_go_live(actor, action, override, self.settings)
        if subject == DEFAULTS and expected is None:
            self._expect_unmoved(session, rows, source, old)
        body = refusals.started(source.body, action, self._facts, self.settings, now_ms)
        if self.settings.four_eyes:
            gates.not_theirs(
                actor, contributors.of_step(session, rows, source, body, old, now_ms), f"{action} their own draft"
            )
        state = State.ACTIVE if action == "activate" else State.SCHEDULED
        made = steps.revision(subject, rows, source, state, body, actor, why, now_ms)
        made = msgspec.structs.replace(made, approved_by=actor.name if self.settings.four_eyes else "")
        book = next_version(old, with_decision(old, made.body), actor.name, why, now_ms)
        made = msgspec.structs.replace(made, book_version=book.version, override=self._worth(old, book, override, now_ms))
        self._store(session, action, made, book, changes := steps.changes_of(old, book, subject))
        return Acted(made, changes, self._meets(book, subject, now_ms), book, warnings=oddities(book, made.body))

    def _end(self, session: Session, subject: str, actor: Actor, why: str, expected: int | None, override: bool) -> Acted:
        now_ms = self._clock()
        rows = found_in(records.decisions(session, subject), subject)
        gates.expect(rows, expected)
        old, live = records.newest_book(session), standing(rows, now_ms).live
        there = any(c.id == subject for c in old.campaigns)
        if live is None or not there or state_at(live, now_ms) not in (State.ACTIVE, State.SCHEDULED):
            bound = "in force or scheduled, with a period" if subject == DEFAULTS else "in force or scheduled"
            remedy = "set other weights, or roll back" if subject == DEFAULTS else "there is nothing to end"
            raise WrongState(f"the state of {subject}", str(standing(rows, now_ms).state), bound, remedy)
        book = next_version(old, without(old, subject), actor.name, why, now_ms)
        body = msgspec.structs.replace(live.body, ends_ms=now_ms)
        made = steps.revision(subject, rows, live, State.ENDED, body, actor, why, now_ms)
        made = msgspec.structs.replace(made, book_version=book.version, override=self._worth(old, book, override, now_ms))
        self._store(session, "end", made, book, changes := steps.changes_of(old, book, subject))
        return Acted(made, changes, (), book)

    def _rollback(
        self, session: Session, version: int, actor: Actor, why: str, expected: int | None, override: bool
    ) -> RewardWeights:
        now_ms = self._clock()
        self._expect_version(session, expected)
        old, target = records.newest_book(session), records.book(session, version)
        gates.may_go_live(actor, "roll back", override, self.settings)
        if self.settings.four_eyes:
            gates.not_theirs(actor, contributors.of_rollback(session, old, target, now_ms), "roll back what they drafted")
        book = next_version(old, target, actor.name, why, now_ms)
        overridden = self._worth(old, book, override, now_ms)
        records.add_book(session, book)
        before, after = bodies(old), bodies(book)
        differ = [s for s in touched(old, book) if s in after or steps.acts(before[s], now_ms)]
        if not differ:
            raise WrongState("version", version, "one that differs from the active version", "there is nothing to undo")
        told = undone(old, book, version).changes
        if DEFAULTS not in differ:  # the audit of the defaults has every rollback
            line = (actor, "rollback", DEFAULTS, gates.reason(why), now_ms, told)
            records.add_line(session, *line, book_version=book.version, override=overridden)
        for subject in differ:
            rows = records.decisions(session, subject)
            body = after.get(subject)
            state = State.ROLLED_BACK if body is None else steps.state_of(body, now_ms)
            live = standing(rows, now_ms).live if rows else None
            made = steps.revision(subject, rows, live, state, body or before[subject], actor, why, now_ms)
            made = msgspec.structs.replace(made, book_version=book.version, override=overridden)
            records.add_decision(session, made)
            changes = diffs.between(before.get(subject), body)
            records.add_audit(session, "rollback", made, told if subject == DEFAULTS else (told[0], *changes))
        return book

    def _store(
        self, session: Session, action: str, made: Decision, book: RewardWeights, changes: tuple[Change, ...]
    ) -> None:
        records.add_book(session, book)
        records.add_decision(session, made)
        records.add_audit(session, action, made, changes)

    def _worth(self, old: RewardWeights, new: RewardWeights, override: bool, now_ms: int) -> bool:
        """Whether the bound on relevance was overridden.

        Raises:
            WorthlessRelevance: it is broken and nobody overrides it.
        """
        found = worthless(old, new, self._facts, self.settings.min_relevance_share, now_ms)
        if found is not None and not override:
            raise found
        return found is not None

    def _meets(self, book: RewardWeights, subject: str, now_ms: int) -> tuple[Overlap, ...]:
        return overlaps(book, self._facts(), now_ms, subject) if len(book.campaigns) > 1 else ()

    def _expect_unmoved(self, session: Session, rows: list[Decision], draft: Decision, active: RewardWeights) -> None:
        """Who activates a draft of the defaults without saying what they saw has seen no more than it did."""
        since = [row for row in rows if row.state != State.DRAFT and row.revision > draft.revision]
        if since:
            seen = max((row.book_version for row in rows if row.revision < draft.revision), default=0)
            before, now = (bodies(book)[DEFAULTS] for book in (records.book(session, seen or 1), active))
            gates.unmoved(draft, since[-1], diffs.between(before, now))

    def _expect_version(self, session: Session, expected: int | None) -> None:
        active = records.newest_book(session)
        if expected is not None and expected != active.version:
            seen = records.book(session, expected) if 1 <= expected < active.version else active
            raise gates.superseded_book(active, seen)
