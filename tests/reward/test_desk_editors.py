"""Two editors, four eyes, roles: the second sees the first's change, and nobody does what they may not."""

from __future__ import annotations

import threading

import pytest

from schemas.decisions import DEFAULTS, Actor, Change, State
from schemas.errors import Forbidden, FourEyes, HeadraceError, NotFound, Superseded
from tests.reward.desk_toys import ANN, BOB, DAN, EVE, NOW_MS, VIC, AtDesk, shoes


def test_of_two_who_saw_the_same_version_the_second_is_told_what_the_first_did(at_desk: AtDesk) -> None:
    here = at_desk()
    here.set({"order": 8}, ANN, "first", expected_version=1)
    with pytest.raises(
        Superseded, match=r"the reward now stands at version 2 by ann at 2026-11-20 12:00:00.*order 4 -> 8"
    ) as caught:
        here.set({"order": 2}, BOB, "second", expected_version=1)
    assert (caught.value.who, caught.value.at_ms, caught.value.changes) == ("ann", NOW_MS, (Change("order", 4.0, 8.0),))
    with pytest.raises(Superseded):
        here.rollback(1, BOB, "second", expected_version=1)
    assert here.book().version == 2


def test_of_two_who_edit_a_draft_the_second_is_told(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft("sale", shoes(), ANN, "new", expected_revision=0)
    with pytest.raises(Superseded, match="revision 1 by ann"):
        here.draft("sale", shoes(), BOB, "new too", expected_revision=0)
    here.draft("sale", shoes(order=6), ANN, "milder", expected_revision=1)
    with pytest.raises(Superseded, match=r"campaign sale now stands at revision 2 by ann .*order 8 -> 6") as caught:
        here.activate("sale", BOB, "as I saw it", expected_revision=1)
    assert caught.value.changes == (Change("order", 8.0, 6.0),)
    here.activate("sale", BOB, "as it is", expected_revision=2)
    with pytest.raises(Superseded, match="state draft -> active"):
        here.end("sale", ANN, "why", expected_revision=2)
    with pytest.raises(NotFound, match="expected revision"):
        here.end("sale", ANN, "why", expected_revision=9)


def test_editors_at_once_leave_no_gap_and_no_twin(at_desk: AtDesk) -> None:
    """Four with connections of their own, five changes each, and none is lost."""
    desks, failed = [at_desk() for _ in range(4)], list[BaseException]()

    def edit(n: int) -> None:
        try:
            for m in range(5):
                desks[n].set({"order": float(10 + m) + n / 10}, Actor(f"editor-{n}", EVE.role), "at once")
        except HeadraceError as error:
            failed.append(error)

    threads = [threading.Thread(target=edit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books, rows = desks[0].books(), desks[0].revisions(DEFAULTS)
    assert not failed
    assert [book.version for book in books] == list(range(1, 22))
    assert [row.revision for row in rows] == list(range(1, 41))
    assert [row.book_version for row in rows if row.state == State.ACTIVE] == list(range(2, 22))
    assert len(desks[0].audit(limit=1000)) == 40


def test_of_two_who_expect_the_same_only_one_gets_through_at_once(at_desk: AtDesk) -> None:
    desks, told = [at_desk() for _ in range(3)], list[str]()

    def edit(n: int) -> None:
        try:
            told.append(f"made {desks[n].set({'order': 5.0 + n}, ANN, 'race', expected_version=1).version}")
        except Superseded:
            told.append("told")

    threads = [threading.Thread(target=edit, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["made 2", "told", "told"]


def test_a_viewer_changes_nothing(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft("sale", shoes(), ANN, "why")
    for act in (
        lambda: here.draft("sale", shoes(), VIC, "why"),
        lambda: here.activate("sale", VIC, "why"),
        lambda: here.schedule("sale", VIC, "why"),
        lambda: here.end("sale", VIC, "why"),
        lambda: here.set({"order": 5}, VIC, "why"),
        lambda: here.rollback(1, VIC, "why"),
    ):
        with pytest.raises(Forbidden, match=r"vic \(viewer\).*role editor"):
            act()
    assert len(here.audit()) == 1


def test_with_four_eyes_another_approver_lets_a_draft_act(at_desk: AtDesk) -> None:
    """Ann may not (editor), Eve may not (her own), Dan may; and who undoes it is not who drafted it."""
    here = at_desk(four_eyes=True)
    with pytest.raises(FourEyes, match="draft it, and let another approver"):
        here.set({"order": 5}, EVE, "alone")
    here.draft("sale", shoes(), ANN, "why")
    here.draft("sale", shoes(order=6), EVE, "the last editor counts")
    with pytest.raises(Forbidden, match="role approver"):
        here.activate("sale", ANN, "why")
    with pytest.raises(FourEyes, match="their own draft"):
        here.activate("sale", EVE, "why")
    made = here.activate("sale", DAN, "seen").decision
    assert (made.who, made.approved_by) == ("dan", "dan")
    with pytest.raises(Forbidden, match="role approver"):
        here.rollback(1, BOB, "undo")
    with pytest.raises(FourEyes, match="roll back what they drafted"):
        here.rollback(1, EVE, "undo")
    here.draft("sale", shoes(order=7), DAN, "more")
    assert here.rollback(1, DAN, "undo").campaigns == ()
    here.activate("sale", EVE, "Dan's draft waited through it")
    here.end("sale", ANN, "an editor may stop at any time")


def test_a_draft_is_judged_by_the_newest_revision_when_another_is_quicker(at_desk: AtDesk) -> None:
    """Without an expectation the approver takes what is newest; and four eyes look at who wrote that."""
    here = at_desk(four_eyes=True)
    here.draft("sale", shoes(), ANN, "why")
    here.draft("sale", shoes(order=30), DAN, "sneaked in")
    with pytest.raises(FourEyes):
        here.activate("sale", DAN, "why")


def test_a_refusal_tells_the_first_changes_and_counts_the_rest(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft("sale", shoes(), ANN, "why")
    here.draft(
        "sale",
        shoes(order=7, click=2, ctr=2, relevance=2, priority=5, name="Sale", zone="Asia/Tokyo", to="2027-01-01"),
        ANN,
        "all",
    )
    with pytest.raises(Superseded, match=r"; and 2 more\)") as caught:
        here.activate("sale", BOB, "why", expected_revision=1)
    assert len(caught.value.changes) == 8
