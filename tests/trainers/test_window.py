"""The window of recent views, and the batches that are formed from it and from the stream."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import Corrupt, InvalidValue
from tests.trainers.learner_toys import view
from trainers.batches import choose, compose, draws, is_held_out
from trainers.follow import Arrival
from trainers.settings import LearnerSettings
from trainers.window import Window

SETTINGS = LearnerSettings(prompts=4, fresh_share=0.5, held_out_share=0.0, window_size=8, max_backlog=6)


def arrivals(*examples: object, partition: int = 0, start: int = 0) -> list[Arrival]:
    """Consecutive records of one partition."""
    return [Arrival(partition, start + n, example) for n, example in enumerate(examples)]  # type: ignore[arg-type]


def test_a_later_revision_replaces_the_view_where_it_stands() -> None:
    """Revision 2 replaces 1, a late copy of 1 does not come back, and the view keeps its age."""
    window = Window(3, [view(1), view(2)])
    assert window.revise(view(1, revision=2, ordered=[1]))
    assert window.revise(view(1, revision=1))
    assert [(v.request_id, v.revision) for v in window.newest(9)] == [("r2", 1), ("r1", 2)]
    assert not window.revise(view(7))
    assert "r7" not in window


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), max_size=60), st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_the_window_is_the_newest_views_by_arrival(events: list[tuple[int, int]], size: int) -> None:
    """Against an ordered dictionary; and a dumped and loaded window draws the same views as the one that went on."""
    window, oracle = Window(size), OrderedDict[str, int]()
    for number, revision in events:
        window.insert(view(number, revision))
        name = f"r{number}"
        if name in oracle:
            oracle[name] = max(oracle[name], revision)
        else:
            oracle[name] = revision
            if len(oracle) > size:
                oracle.popitem(last=False)
    assert [(v.request_id, v.revision) for v in window.newest(99)] == list(oracle.items())[::-1]
    loaded = Window.load(window.dump(), size, "w")
    for follower in (window, loaded):
        follower.insert(view(99))
    assert loaded.draw(3, draws(1, 2)) == window.draw(3, draws(1, 2))
    assert loaded.dump() == window.dump()


def test_a_window_that_is_resized_keeps_the_newest_and_goes_on() -> None:
    """Smaller: the oldest go, whatever slot they are in; larger: nothing changes but the room."""
    window = Window(3)
    for number in range(5):  # the ring has turned: views 2, 3, 4
        window.insert(view(number))
    window.resize(2)
    assert [v.request_id for v in window.newest(9)] == ["r4", "r3"] and "r2" not in window
    window.resize(3)
    for number in (5, 6):
        window.insert(view(number))
    assert [v.request_id for v in window.newest(9)] == ["r6", "r5", "r4"] and window.revise(view(5, revision=2))


def test_draws_are_distinct_and_uniform() -> None:
    """2 of 5, 4,000 times: each view is drawn 1,600 times, give or take 5 standard deviations (31)."""
    window = Window(5, [view(n) for n in range(9)])
    counts = dict.fromkeys((f"r{n}" for n in range(4, 9)), 0)
    for counter in range(4000):
        drawn = [v.request_id for v in window.draw(2, draws(0, counter))]
        assert len(set(drawn)) == 2
        for name in drawn:
            counts[name] += 1
    assert all(abs(count - 1600) < 155 for count in counts.values()), counts


def test_a_window_needs_room_and_good_bytes() -> None:
    """Size 0 and torn bytes are refused, the latter with the file's name."""
    with pytest.raises(InvalidValue, match="at least 1"):
        Window(0)
    with pytest.raises(Corrupt, match=r"c/window\.msgpack"):
        Window.load(Window(2, [view(1)]).dump()[:-3], 2, "c/window.msgpack")


def test_draws_of_a_step_are_a_function_of_seed_and_counter() -> None:
    """The same pair gives the same numbers; a neighbour gives others."""
    numbers = {(s, c): tuple(draws(s, c).integers(2**60, size=3)) for s in (0, 1) for c in (0, 1)}
    assert len(set(numbers.values())) == 4
    assert tuple(draws(1, 0).integers(2**60, size=3)) == numbers[1, 0]


def test_held_out_is_a_property_of_the_request() -> None:
    """The share is respected within 5 standard deviations of a binomial (20,000 at 0.1: 2,000 give or take 212)."""
    count = sum(is_held_out(f"request-{n}", 0.1) for n in range(20_000))
    assert abs(count - 2000) < 212
    assert not any(is_held_out(f"request-{n}", 0.0) for n in range(100))


def test_held_out_views_never_become_prompts() -> None:
    """In any revision; and the gate's window gets every one of them."""
    chosen = SETTINGS.model_copy(update={"held_out_share": 0.5, "prompts": 64})
    records = arrivals(*(view(n) for n in range(30)), *(view(n, 2, clicked=[1]) for n in range(30)))
    window, held_out = Window(64), Window(64)
    batch = compose(records, window, held_out, chosen, draws(0, 0))
    aside = {f"r{n}" for n in range(30) if is_held_out(f"r{n}", 0.5)}
    assert 5 < len(aside) < 25
    assert {v.request_id for v in held_out.newest(99)} == aside
    assert all(v.revision == 2 for v in held_out.newest(99))
    assert not aside & {v.request_id for v in (*batch.views, *window.newest(99))}


def test_a_view_is_a_fresh_prompt_once() -> None:
    """Revision 2 in the same step replaces the prompt; in a later step it corrects the window and prompts nothing."""
    window = Window(8)
    first = compose(arrivals(view(1), view(2), view(1, 2, clicked=[2])), window, Window(2), SETTINGS, draws(0, 0))
    assert [(v.request_id, v.revision) for v in first.views] == [("r1", 2), ("r2", 1)]
    assert (first.fresh, first.revised) == (2, 1)
    second = compose(arrivals(view(2, 2, ordered=[1]), start=3), window, Window(2), SETTINGS, draws(0, 1))
    assert (second.fresh, second.revised) == (0, 1)
    assert {(v.request_id, v.revision) for v in second.views} == {("r1", 2), ("r2", 2)}


def test_a_revision_of_a_view_that_left_the_window_can_still_be_drawn() -> None:
    """What became of it is not lost, and it is no fresh prompt."""
    window = Window(8, [view(1)])
    batch = compose(arrivals(view(50, 2, ordered=[3])), window, Window(2), SETTINGS, draws(0, 0))
    assert batch.fresh == 0
    assert [v.request_id for v in batch.views] == ["r1"]
    assert "r50" in window


def test_the_rest_of_a_batch_comes_from_before_this_step() -> None:
    """One fresh view, four prompts: it and three of the window's, never itself twice."""
    window = Window(8, [view(n) for n in range(5)])
    batch = compose(arrivals(view(9)), window, Window(2), SETTINGS, draws(0, 0))
    names = [v.request_id for v in batch.views]
    assert names[0] == "r9"
    assert len(set(names)) == 4
    assert set(names[1:]) <= {f"r{n}" for n in range(5)}


def test_unreadable_records_move_the_offset_and_nothing_else() -> None:
    """An offset with no example (it is in quarantine) is consumed."""
    offsets, fresh = choose(arrivals(None, view(1), None), {0: 0, 1: 7}, SETTINGS)
    assert (offsets, fresh) == ({0: 3, 1: 7}, 1)
    assert compose(arrivals(None), Window(2), Window(2), SETTINGS, draws(0, 0)).views == ()


def test_a_step_reads_no_further_than_its_share() -> None:
    """Five wait, half of four prompts: it stops before the third, but takes the revision that stands before it."""
    waiting = [*arrivals(view(1), view(2), view(1, 2)), *arrivals(view(3), view(4), view(5), partition=1)]
    assert choose(waiting, {0: 0, 1: 0}, SETTINGS) == ({0: 3, 1: 0}, 2)


def test_a_crowd_is_taken_by_whole_steps() -> None:
    """Sixteen wait (four steps of four): still half; with one more, all four prompts are fresh."""
    patient = SETTINGS.model_copy(update={"max_backlog": 100})
    records = arrivals(*(view(n) for n in range(17)))
    assert choose(records[:16], {0: 0}, patient)[1] == 2
    assert choose(records, {0: 0}, patient)[1] == 4


def test_a_backlog_is_taken_whole() -> None:
    """Seven wait where six may: all are taken, the newest four prompt, the others wait in the window."""
    records = arrivals(*(view(n) for n in range(7)))
    offsets, fresh = choose(records, {0: 0}, SETTINGS)
    assert (offsets, fresh) == ({0: 7}, 7)
    window = Window(8)
    batch = compose(records, window, Window(2), SETTINGS, draws(0, 0))
    assert [v.request_id for v in batch.views] == ["r3", "r4", "r5", "r6"]
    assert batch.fresh == 7
    assert len(window) == 7


def test_choice_does_not_depend_on_numpy_global_state() -> None:
    """The global generator is not used."""
    window = Window(8, [view(n) for n in range(8)])
    np.random.seed(0)
    one = window.draw(4, draws(5, 5))
    np.random.seed(1)
    assert window.draw(4, draws(5, 5)) == one


def test_views_from_before_the_stream_are_read_over() -> None:
    """The warm start has them: they make no prompt, enter no window and are no reason for a step."""
    since = LearnerSettings(learn_from_ms=1_000, held_out_share=0.0)
    records = arrivals(replace(view(1), ts=999), replace(view(2), ts=1_000))
    assert choose(records, {0: 0}, since) == ({0: 2}, 1)
    window = Window(8)
    batch = compose(records, window, Window(8), since, draws(0, 1))
    assert [v.request_id for v in batch.views] == ["r2"]
    assert [v.request_id for v in window.newest(8)] == ["r2"]
