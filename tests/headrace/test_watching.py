"""Progress where there is no terminal: a log that holds a line a minute."""

from __future__ import annotations

from headrace.commands.watching import LINE_EVERY_S, lines


def test_a_log_gets_a_line_a_minute_with_the_share_the_stage_and_the_time() -> None:
    """Told every 20 s for 130 s: lines at 60 s and 120 s, none for what is over within a minute."""
    now, said = [1_000.0], list[str]()
    tell = lines("Ablation", said.append, lambda: now[0])
    for step in range(1, 8):
        now[0] = 1_000.0 + 20 * step
        tell(step, 8, "seed 1 tpma" if step > 3 else "")
    assert LINE_EVERY_S == 60
    assert said == ["Ablation: 38% after 60 s", "Ablation, seed 1 tpma: 75% after 120 s"]


def test_nothing_to_do_is_no_division_by_zero() -> None:
    now, said = [0.0], list[str]()
    tell = lines("reading", said.append, lambda: now[0])
    now[0] = 61
    tell(0, 0)
    assert said == ["reading: 0% after 61 s"]
