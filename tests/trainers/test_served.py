"""What is served lies between the warm start and what was learned; the learner goes on from its own weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from reward.campaigns.relative import diluted
from schemas.checkpoints import Manifest
from schemas.errors import Corrupt, Incompatible
from schemas.journal import TrainingSettings
from schemas.store import Store
from tests.trainers import policy_toys as toys
from tests.trainers.test_step import SETTINGS, VERSIONS, intent, start, walk
from trainers import checkpoints
from trainers.journalled import settings_at
from trainers.lines import Line
from trainers.policies import load_policy
from trainers.served import Start, as_served, start_of
from trainers.settings import LearnerSettings
from trainers.state import LEARNED, load_state, restore, save_state, save_warm_start

torch.set_num_threads(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With a warm start."""
    made = Store(str(tmp_path / "store"))
    save_warm_start(made, toys.toy_policy(), 0, VERSIONS, {})
    return made


def numbers(policy: toys.LevelPolicy) -> list[torch.Tensor]:
    """A copy of all weights."""
    return [weight.detach().clone() for weight in policy.parameters()]


class Given(Start):
    """A start whose weights are at hand."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        self.weights = weights  # type: ignore[misc]


@pytest.mark.parametrize("share", [0.25, 0.75, 1.0])
def test_each_weight_is_that_share_of_the_way(share: float) -> None:
    """begin + share * (own - begin), by its formula; the own ones are back to the last bit, after an error too."""
    policy = toys.toy_policy(seed=1)
    begin, own = numbers(toys.toy_policy(seed=2)), numbers(policy)
    with pytest.raises(KeyError), as_served(policy, Given(begin), share):
        for a, b, now in zip(begin, own, policy.parameters(), strict=True):
            expected = a.double() + share * (b.double() - a.double())
            torch.testing.assert_close(now.detach().double(), expected, rtol=1e-6, atol=1e-7)
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(own, policy.parameters(), strict=True))


def test_a_checkpoint_serves_what_lies_between_and_goes_on_from_what_was_learned(store: Store) -> None:
    """The folder that a server opens, the file that training goes on from, and what each has absorbed; and back to it."""
    state = start(store)
    first = checkpoints.read(store, state.parent)
    walk(state, 1, 3)
    settings = SETTINGS.model_copy(update={"served_share": 0.5})
    saved = save_state(store, state, intent(3), settings, VERSIONS, {})
    assert (saved.start, saved.learned) == (first.checkpoint, state.absorbed)
    served, begin = (load_policy(checkpoints.policy_folder(store, m.checkpoint)).module.parameters() for m in (saved, first))
    learned = [weight.detach() for weight in state.policy.module.parameters()]
    for now, a, b in zip(served, begin, learned, strict=True):
        torch.testing.assert_close(now.detach(), (a.detach() + b) / 2, rtol=1e-5, atol=1e-7)
    assert saved.absorbed == diluted(state.absorbed, 0.5) != state.absorbed
    again = load_state(store, saved, settings, VERSIONS)
    assert all(torch.equal(a, b) for a, b in zip(learned, again.policy.module.parameters(), strict=True))
    assert again.absorbed == state.absorbed
    walk(again, 4, 5)
    restore(again, store, saved.checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(learned, again.policy.module.parameters(), strict=True))
    assert again.absorbed == state.absorbed


def test_served_as_learned_there_is_nothing_else_to_keep(store: Store) -> None:
    """The same weights in the folder that is served, and no other file."""
    state = start(store)
    walk(state, 1, 2)
    saved = save_state(store, state, intent(2), SETTINGS.model_copy(update={"served_share": 1.0}), VERSIONS, {})
    assert LEARNED not in saved.files and saved.learned == () and saved.absorbed == state.absorbed
    served = load_policy(checkpoints.policy_folder(store, saved.checkpoint)).module.parameters()
    assert all(torch.equal(a, b) for a, b in zip(served, state.policy.module.parameters(), strict=True))


def test_a_harmed_file_of_what_was_learned_is_named(store: Store) -> None:
    """Cut short: by its checksum, and by itself where the manifest was made of it."""
    state = start(store)
    walk(state, 1, 1)
    saved = save_state(store, state, intent(1), SETTINGS, VERSIONS, {})
    path = f"{checkpoints.path_of(saved.checkpoint)}/{LEARNED}"
    data = store.read(path)[:-9]
    store.write(path, data)
    with pytest.raises(Corrupt, match=LEARNED):
        checkpoints.verify(store, saved.checkpoint)
    files = {**saved.files, LEARNED: checkpoints.sha256(data)}
    with pytest.raises(Corrupt, match=LEARNED):
        load_state(store, msgspec.structs.replace(saved, files=files), SETTINGS, VERSIONS)


def test_the_start_of_a_line_is_named_or_looked_for(store: Store) -> None:
    """Manifests of before do not name it: then it is the first of their parents. It is never pruned."""

    def made(step: int, parent: str, start: str = "") -> Manifest:
        draft = msgspec.structs.replace(checkpoints.read(store, first), step=step, parent=parent, start=start)
        return checkpoints.write(store, {"policy.json": f"{step}".encode()}, draft)

    first = start(store).parent
    one = made(1, first)
    two = made(2, one.checkpoint)
    assert [start_of(store, m).checkpoint for m in (checkpoints.read(store, first), one, two)] == [first] * 3
    assert start_of(store, made(3, "lost", start=first)).checkpoint == first
    checkpoints.prune(store, Line(store, first), two, 1, [two.checkpoint])
    assert checkpoints.verify(store, first).step == 0
    assert not store.exists(f"{checkpoints.path_of(one.checkpoint)}/policy.json")


def test_steps_of_before_there_was_a_share_are_taken_again_as_they_were() -> None:
    """Settings that do not say a share served what was learned; those that do are taken at their word."""
    said = LearnerSettings(served_share=0.5).model_dump(mode="json")
    before = {name: value for name, value in said.items() if name != "served_share"}
    assert settings_at([], 1, before, LearnerSettings()).served_share == 1.0
    assert settings_at([], 1, said, LearnerSettings()).served_share == 0.5
    told = [TrainingSettings(0, said, 1)]
    assert settings_at(told, 1, before, LearnerSettings()).served_share == 0.5
    with pytest.raises(Incompatible):
        settings_at([], 1, {**said, "served_share": 0}, LearnerSettings())
