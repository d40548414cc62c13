"""The delivery benchmark can fail: its comparison finds what is lost, doubled, changed or moved, and its rows say so."""

from __future__ import annotations

import pytest

from benchmarks import delivery, soak
from benchmarks.delivery_faults.flow import Log
from benchmarks.delivery_faults.stage import RULES, Tally
from benchmarks.delivery_faults.undisturbed import _as_multiset, _in_order

WANT = [(b"u", b"1"), (b"u", b"2"), (b"v", b"3")]


def test_views_have_to_be_the_same_in_the_same_order() -> None:
    """Lost, doubled and swapped: each is a difference, told by its place."""
    assert _in_order("views", list(WANT), WANT) == ""
    assert "2 views, undisturbed 3" in _in_order("views", WANT[:2], WANT)
    assert "4 views, undisturbed 3" in _in_order("views", [*WANT, WANT[2]], WANT)
    assert _in_order("views", [WANT[1], WANT[0], WANT[2]], WANT).startswith("number 0 of the views is")


def test_quarantine_has_to_be_the_same_in_any_order() -> None:
    """Lost and doubled records are differences, swapped ones are not."""
    assert _as_multiset(WANT[::-1], WANT) == ""
    assert "1 records missing" in _as_multiset(WANT[:2], WANT)
    assert "1 records too many" in _as_multiset([*WANT, WANT[0]], WANT)


def test_a_round_with_a_difference_counts_none_of_its_faults() -> None:
    """Five of fifteen faults lie in a round that differed: 10 of 15."""
    row = delivery.identical("identical", [Tally("kill -9", 10, 10, 1), Tally("kill -9", 5, 0, 1)])
    assert (row.ours, row.peer, row.repeats) == (10, 15, 15)


@pytest.mark.parametrize(("words", "lacks"), [(["--only", "nonsense"], ""), (["--quick", "--only", "SIGSTOP"], "SIGSTOP,")])
def test_a_kind_that_a_run_does_not_have_is_refused_with_the_names_it_has(
    words: list[str], lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started; a quick run has fewer."""
    with pytest.raises(SystemExit) as end:
        delivery.main(words)
    said = capsys.readouterr().err.partition("must be")[2]
    assert end.value.code == 2 and "kill -9, " in said and "second worker" in said
    assert ("take-over" in said) is (not lacks) and (not lacks or lacks not in said)


def test_a_log_takes_so_many_events_whatever_ticks_lie_between_and_a_seed_gives_the_same_one() -> None:
    """Ticks have no key. Values are left out, as a record of the far future says when it was made."""
    one, other = Log(7, RULES, 2), Log(7, RULES, 2)
    for events in (1_000, 500):
        taken = one.take(events)
        assert sum(entry.key != b"" for entry in taken) == events < len(taken)
        assert [entry[:3] for entry in taken] == [entry[:3] for entry in other.take(events)]


def test_memory_is_judged_by_the_medians_of_the_second_and_the_last_fifth() -> None:
    """Ten samples of 10, 20, ... bytes: the second fifth is 30 and 40, the last 90 and 100."""
    samples = [soak.Sample(n, 10 * n, 0, 0, 0.0, 0) for n in range(1, 11)]
    assert (soak.fifth(samples, 2), soak.fifth(samples, 5)) == (35, 95)
