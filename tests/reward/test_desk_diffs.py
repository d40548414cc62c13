"""What a first activation, a change and an end are told to have changed: what somebody said, not what every campaign says."""

from __future__ import annotations

from schemas.decisions import Change
from tests.reward.desk_toys import ANN, AtDesk, shoes

SAID = (
    ("name", "Sale"), ("owner", "ann"), ("order", 8.0), ("zone", "Europe/Berlin"), ("to", "2026-12-01 00:00:00+01:00"),
    ("scope.categories", "shoes"), ("multipliers.brands.Tessaro", 1.2),
)  # fmt: skip


def test_from_nothing_and_to_nothing_only_what_was_said_differs(at_desk: AtDesk) -> None:
    """In the draft, the activation, the audit, the end, and between versions; no field that has its default is told."""
    here = at_desk()
    wanted = shoes(
        name="Sale", zone="Europe/Berlin", to="2026-12-01T00:00", multipliers={"brands": {"Tessaro": 1.2}}, priority=100
    )
    came = {Change(name, None, value) for name, value in SAID}
    drafted = here.draft("sale", wanted, ANN, "why")
    assert set(drafted.changes) == came and len(drafted.changes) == len(SAID)
    assert set(here.activate("sale", ANN, "why").changes) == came
    assert set(here.audit(action="activate")[0].changes) == came
    assert set(here.diff_books(1, 2)) == {Change(f"campaigns.sale.{c.field}", None, c.new) for c in came}
    went = {Change(c.field, c.new, None) for c in came}
    assert set(here.end("sale", ANN, "why").changes) == went
    here.rollback(2, ANN, "back")
    assert set(here.audit(action="rollback")[0].changes) == {*came, Change("as of version", "3", "2")}
    assert set(here.diff_books(2, 3)) == {Change(f"campaigns.sale.{c.field}", c.old, None) for c in went}


def test_between_two_revisions_a_default_is_told_like_any_other_value(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft("sale", shoes(multipliers={"margin": 1.5}), ANN, "why")
    changed = here.draft("sale", shoes(priority=200), ANN, "why").changes
    assert changed == (Change("priority", 100, 200), Change("multipliers.margin", 1.5, 1.0))
