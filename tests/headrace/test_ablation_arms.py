"""An ablation's arms are settings that exist; and the small pure parts beside the loop."""

from __future__ import annotations

import msgspec
import pytest

from headrace.ablation.arms import chosen, parsed, table
from headrace.ablation.lab import at_most, classes
from headrace.ablation.settings import arm_key, base_settings, prepared_key, setup_of
from headrace.ablation.users import Users
from headrace.world import Request
from schemas.errors import InvalidSetting, InvalidValue
from schemas.events import Click, Impression, Order, ShownItem
from serving.settings import EngineSettings
from tests.headrace.ablation_toys import LOOP, small_settings


def test_a_key_hangs_on_all_that_shapes_an_arm_and_on_nothing_else() -> None:
    base = small_settings()
    keys = [arm_key(setup_of(base, LOOP, arm), arm) for arm in chosen(["all"])]
    assert len(set(keys)) == len(keys)
    (arm,) = chosen(["tpma"])
    for other, loop in ((small_settings(8), LOOP), (base, LOOP.model_copy(update={"requests": 47}))):
        assert arm_key(setup_of(other, loop, arm), arm) not in keys
    elsewhere = base.model_copy(update={"store": "/elsewhere", "kafka": "broker:9092"})
    assert arm_key(setup_of(elsewhere, LOOP, arm), msgspec.structs.replace(arm, says="x")) in keys
    assert prepared_key(base, LOOP) == prepared_key(setup_of(base, LOOP, chosen(["learner.group=8"])[0]).settings, LOOP)


def test_every_arm_of_the_table_is_a_change_of_settings_that_exist() -> None:
    """A setting that is gone, or a switch that switches nothing, would compare an arm with itself."""
    base = small_settings()
    setups = {name: setup_of(base, LOOP, arm) for group in table().values() for name, arm in group.items()}
    for name in table()["switches"]:
        assert setups[name] != setups["tpma"], name
    assert setups["tpma_paper"].settings.trainers.learner.loss.gate_item_advantage
    with pytest.raises(InvalidSetting, match=r"learner\.nothing|nothing"):
        setup_of(base, LOOP, chosen(["tpma"], ["learner.nothing=1"])[0])
    with pytest.raises(InvalidValue, match="setting of an arm"):
        chosen(["trainers.policy.d_model=64"])
    with pytest.raises(InvalidValue, match="arm"):
        chosen(["nobody"])
    with pytest.raises(InvalidSetting, match=r"loop\.step_every"):
        setup_of(base, LOOP, chosen(["loop.step_every=0"])[0])
    assert parsed(["a.b=0", "c=paper", "d=true"]) == {"a.b": 0, "c": "paper", "d": True}
    assert chosen(["grpo"], ["learner.group=8"])[0].name == "grpo+learner.group=8"


def test_an_arm_with_settings_of_its_own_is_typed_as_it_is_named() -> None:
    """Any arm takes some, beside others that do not; without an arm they are the default learner's."""
    typed = ["grpo", "grpo+learner.group=8+learner.window_size=64", "learner.group=8+learner.window_size=64"]
    plain, of_grpo, of_ours = chosen(typed)
    assert [plain.name, of_grpo.name, of_ours.name] == typed
    assert of_grpo.set == {**plain.set, "learner.group": 8, "learner.window_size": 64}
    assert of_ours.set == {"learner.group": 8, "learner.window_size": 64}
    with pytest.raises(InvalidValue, match="arm is 'nobody'"):
        chosen(["nobody+learner.group=8"])


def test_the_base_run_is_the_demo_s_shop_at_a_fixed_time() -> None:
    found = base_settings("shop", 5, LOOP, items=300)
    assert (found.seed, found.shop.seed, found.trainers.learner.seed, found.serving.engine.seed) == (5, 5, 5, 5)
    assert (found.shop.items, found.shop.queries, found.shop.live_requests) == (300, 600, 57)
    assert found.trainers.warm_start.seconds == 0 and found.trainers.warm_start.steps > 0
    assert found == base_settings("shop", 5, LOOP, items=300)
    with pytest.raises(InvalidSetting, match="--items"):
        base_settings("somewhere", 5, LOOP, items=300)


def test_users_past_is_newest_first_each_once_and_before_the_search() -> None:
    users = Users(EngineSettings(recent_queries=2, recent_items=2))
    for ts, query in ((1, "a"), (2, "b"), (3, "c"), (4, "a"), (9, "late")):
        users.did(Impression(ts, f"r{ts}", "u", query, (ShownItem("x", 1),)))
    users.did(Click(5, "u", "x"))
    users.did(Order(6, "u", "x", "o"))
    assert users.recent("u", 5) == (("a", "c"), (), ())
    assert users.recent("u", 6) == (("a", "c"), ("x",), ()) and users.recent("v", 6) == ((), (), ())
    assert users.recent("u", 7).orders == ("x",)


def test_at_most_keeps_people_whole_and_classes_cut_searches_in_thirds() -> None:
    requests = [Request(f"r{n}", n, f"u{n % 3}", "", "q") for n in range(9)]
    kept = at_most(requests, 6, seed=1)
    assert len({r.user for r in kept}) == 2 and [r.ts for r in kept] == sorted(r.ts for r in kept) and len(kept) == 6
    assert at_most(requests, 99, seed=1) == requests
    assert classes(["a"] * 4 + ["b"] * 4 + ["c", "d", "e", "f"]) == {
        "a": "head", "b": "middle", "c": "tail", "d": "tail", "e": "tail", "f": "tail",
    }  # fmt: skip
