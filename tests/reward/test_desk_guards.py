"""Each guard has an error of its own, which names value, bound and remedy; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward.desk.meeting import Effective
from reward.desk.wishes import read_wish, wish
from reward.desk.worth import relevance_share
from schemas import errors
from schemas.connections import Connections
from schemas.decisions import DEFAULTS
from schemas.errors import InvalidRequest, WorthlessRelevance
from tests.reward.desk_toys import ANN, EVE, AtDesk, shoes

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"order": NAN}, errors.InvalidWeight, "weight order is nan.*0 to 100"),
        ({"order": INF}, errors.InvalidWeight, "weight order is inf.*0 to 100"),
        ({"click": -0.1}, errors.InvalidWeight, "weight click is -0.1.*0 to 100"),
        ({"relevance": 100.5}, errors.InvalidWeight, "weight relevance is 100.5.*0 to 100"),
        ({"multipliers": {"margin": 2.1}}, errors.InvalidWeight, "margin is 2.1.*0.5 to 2"),
        ({"multipliers": {"new_items": NAN}}, errors.InvalidWeight, "new_items is nan.*0.5 to 2"),
        ({"multipliers": {"new_days": 0}}, errors.InvalidWeight, "new_days is 0.*365"),
        ({"multipliers": {"brands": {"Tessaro": -1}}}, errors.InvalidWeight, "brand Tessaro is -1.*0.5 to 2"),
        ({"from": "2026-12-02T00:00", "to": "2026-12-01T00:00"}, errors.EndsBeforeStart, "2026-12-01.*after its start, 2026-12-02"),
        ({"from": "2026-12-01T00:00", "to": "2026-12-01T00:00"}, errors.EndsBeforeStart, "after its start"),
        ({"to": "2026-11-20T12:00"}, errors.EndsInPast, "2026-11-20 12:00:00.*later than now"),
        ({"scope": {"categories": ["shose", "tools"]}}, errors.EmptyScope, "'shose'.*nearest to shose: shoes"),
        ({"scope": {"brands": ["tessaro"]}}, errors.EmptyScope, "nearest to tessaro: Tessaro"),
        ({"scope": {"categories": ["kitchen"], "brands": ["Tessaro"]}}, errors.EmptyScope, "kitchen by Tessaro.*at least one item"),
        ({"scope": {"queries": ["red shoes", "?!"]}}, errors.EmptyScope, "'\\?!'.*at least one word"),
        ({"multipliers": {"brands": {"Ombra": 1.2}}}, errors.EmptyScope, "Ombra.*items in the scope"),
        ({"scope": {"segments": ["vips"]}}, errors.EmptyScope, "nearest to vips: vip"),
        ({"scope": {"markets": ["xx"]}}, errors.EmptyScope, "reward.desk.markets"),
        ({"order": None}, InvalidRequest, "at least one weight or multiplier"),
        ({"priority": 1001}, InvalidRequest, "priority"),
        ({"scope": {"category": ["shoes"]}}, InvalidRequest, "category"),
        ({"from": "soon"}, errors.InvalidTime, "'soon'.*ISO 8601"),
        ({"zone": "Europe/Berln"}, errors.UnknownZone, "Europe/Berlin"),
        ({"owner": " \t"}, InvalidRequest, "owner of sale .* more than blanks.*leave it out"),
        ({"name": " "}, InvalidRequest, "name of sale .* more than blanks"),
        ({"name": "a\x1b[2Jb"}, InvalidRequest, "text that can be read.*x1b"),
        ({"scope": {"segments": ["vip\udcff"]}}, InvalidRequest, "text that can be read.*udcff"),
        ({"relevance": 0}, errors.WorthlessRelevance, "share of relevance under sale is '0.000.*at least 0.1"),
    ],
)  # fmt: skip
def test_what_makes_no_campaign_is_told_by_its_name(
    tmp_path: Path, fields: dict[str, Any], error: type[InvalidRequest], told: str
) -> None:
    opened = AtDesk(Connections(database=f"sqlite:///{tmp_path / 'guards.db'}"))
    here = opened(segments=("vip", "new"), markets=("de", "fr"))
    with pytest.raises(InvalidRequest, match=told) as caught:
        here.draft("sale", shoes(**fields), EVE, "why")
        here.activate("sale", EVE, "why")
    assert type(caught.value) is error and caught.value.bound and caught.value.remedy
    assert here.book().version == 1
    opened.close()


@pytest.mark.parametrize("why", ["\x1b[31mred", "f\udcfcr", "\x07"])
def test_a_reason_that_nobody_can_read_is_refused(at_desk: AtDesk, why: str) -> None:
    """It would steer the terminal of whoever reads the audit; or be bytes of another encoding, which no database keeps."""
    here = at_desk()
    with pytest.raises(InvalidRequest, match=r"why is .*text that can be read: UTF-8, no control characters; take out"):
        here.draft("sale", shoes(), ANN, why)
    made = here.draft("sale", shoes(name="Gr\u00fc\u00dfe <b>\u00a0\U0001f45f"), ANN, "two\nlines\tand a tab")
    assert made.decision.why == "two\nlines\tand a tab"


def test_a_margin_multiplier_needs_margins(at_desk: AtDesk) -> None:
    """With margins it is taken; without, an item's margin would silently be zero."""
    lean = shoes(multipliers={"margin": 1.5})
    at_desk().draft("with", lean, ANN, "why")
    with pytest.raises(errors.NoMargins, match=r"1\.5.*no margins.*column `margin`"):
        at_desk(margins=False).draft("without", lean, ANN, "why")


def test_the_defaults_have_no_scope_and_ids_are_plain(at_desk: AtDesk) -> None:
    here = at_desk()
    with pytest.raises(InvalidRequest, match="without scope"):
        here.draft(DEFAULTS, shoes(), ANN, "why")
    for bad in ("Sale", "", "a b", "x" * 65, "-x"):
        with pytest.raises(InvalidRequest, match="id"):
            here.draft(bad, shoes(), ANN, "why")
    with pytest.raises(InvalidRequest, match="at least one of relevance, ctr, click, order"):
        here.set({}, ANN, "why")
    with pytest.raises(InvalidRequest, match="margin"):
        here.set({"margin": 1}, ANN, "why")


def test_queries_are_compared_as_the_server_does(at_desk: AtDesk) -> None:
    made = at_desk().draft("sale", shoes(scope={"queries": ["Red  SHOES!", "red shoes"]}), ANN, "why")
    assert made.decision.body.scope.queries == ("red shoes",)


def test_the_share_of_relevance_by_hand() -> None:
    """3 * 1 * 1 / (3 + (1 + 4)) = 0.375; with multipliers from 0.5 to 2: 1.5 / (1.5 + 10)."""
    assert relevance_share(Effective(1, 1, 3, 4, 1, 1)) == 0.375
    assert relevance_share(Effective(1, 1, 3, 4, 0.5, 2)) == pytest.approx(1.5 / 11.5)
    assert relevance_share(Effective(0, 0, 0, 0, 1, 1)) == 0


def test_worthless_relevance_of_the_defaults_is_refused_with_its_numbers(at_desk: AtDesk) -> None:
    """3 / (3 + 1 + 26) is 0.1 and just allowed; 27 is not, unless an approver says so, which the audit keeps."""
    here = at_desk()
    here.set({"order": 26}, ANN, "just")
    with pytest.raises(WorthlessRelevance, match=r"of the defaults is '0\.097.*order 27.*at least 0\.1"):
        here.set({"order": 27}, ANN, "too much")
    with pytest.raises(errors.Forbidden, match=r"ann \(editor\).*role approver"):
        here.set({"order": 27}, ANN, "too much", override=True)
    here.set({"order": 27}, EVE, "on purpose", override=True)
    assert [(a.who, a.override) for a in here.audit(action="activate")] == [("eve", True), ("ann", False)]
    here.set({"click": 2}, ANN, "what was overridden is not asked again: order decides as before")


def test_worthless_relevance_is_seen_over_what_a_campaign_lies(at_desk: AtDesk) -> None:
    """Order 20 alone is 3 / 24, with relevance 0.5 of the other it is 1.5 / 22.5: only together they break the bound."""
    here = at_desk()
    here.draft("orders", shoes(order=20), ANN, "why")
    here.activate("orders", ANN, "why")
    here.draft("tools", shoes(scope={"categories": ["tools"]}, order=None, relevance=0.7), ANN, "why")
    here.activate("tools", ANN, "no item is in both")
    here.draft("loose", shoes(order=None, relevance=0.5), ANN, "why")
    with pytest.raises(WorthlessRelevance, match=r"under loose, orders is '0\.067"):
        here.activate("loose", ANN, "why")
    here.end("orders", ANN, "why")
    here.activate("loose", ANN, "alone it is 1.5 / 6.5")


def test_a_file_keeps_its_times_as_written(tmp_path: Path) -> None:
    """YAML would make a time of its own of what has no quotes."""
    file = tmp_path / "sale.yaml"
    file.write_text("from: 2026-12-01T00:00:00\nto: 2026-12-03\norder: 8\nscope:\n  categories: [shoes]\n")
    asked = wish(read_wish(file))
    assert (asked.starts, asked.ends, asked.order, asked.scope.categories) == (
        "2026-12-01T00:00:00",
        "2026-12-03",
        8,
        ("shoes",),
    )
    large = "9" * 400, "9" * 5_000
    many = (("- 1", "mapping"), ("a: [", "YAML"), ("ordr: 1", "ordr"), (f"order: {large[1]}", "5000 digits"))
    for text, told in (*many, (f"order: {large[0]}", "order is 9{38}...9{39}, but must be a finite number")):
        file.write_text(text)
        with pytest.raises(InvalidRequest, match=told):
            wish(read_wish(file))


@pytest.mark.parametrize(
    ("text", "name", "lines"),
    [
        ("order: 8\nname: sale\norder: 9\n", "order", "1 and 3"),
        ('{"order": 8,\n "order": 8}', "order", "1 and 2"),
        ("multipliers:\n  brands: {a: 1.2,\n    'a': 1.3}\n", "a", "2 and 3"),
        ("scope:\n  categories: [shoes]\norder: 8\nscope:\n  brands: [a]\n", "scope", "1 and 4"),
    ],
)
def test_a_file_that_names_something_twice_is_refused(tmp_path: Path, text: str, name: str, lines: str) -> None:
    """YAML and JSON alike, at any depth, quoted or not, and with one value twice: readers would take the last."""
    file = tmp_path / "sale.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match="named once; leave one of them out") as caught:
        read_wish(file)
    assert (caught.value.what, caught.value.value) == (name, f"on lines {lines} of the file")
    file.write_text("a: &a {order: 8}\nb: {order: 8}\nc: {<<: *a, order: 9}\n")
    assert read_wish(file)["c"] == {"order": 9}  # one name in several places, and one that goes over what it takes in


def test_a_book_larger_than_a_record_is_refused(at_desk: AtDesk) -> None:
    """7,000 queries of 150 letters are more than a megabyte: nobody could read that from the topic."""
    here = at_desk()
    here.draft("much", shoes(scope={"queries": [f"{n:0150d}" for n in range(7_000)]}), ANN, "why")
    with pytest.raises(InvalidRequest, match=r"size of all campaigns is 1[0-9]{6}.*1000000 bytes"):
        here.activate("much", ANN, "why")
    assert here.book().version == 1
