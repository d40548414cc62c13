"""Weights are immutable versions; database and topic agree, even after a kill between the two."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace.services.ports import free_port
from reward.weights import WeightStore, publish_outbox
from schemas import log
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import Conflict, InvalidRequest, InvalidSetting, Unavailable
from schemas.tables import OutboxRow
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'weights.db'}"


def test_a_change_is_a_new_version_and_the_others_stay(url: str) -> None:
    store = WeightStore(open_database(Connections(database=url)))
    assert store.active() == RewardWeights()
    second = store.set({"order": 8.0}, "ann", "campaign")
    third = store.set({"click": 1.0}, "bob", "less clickbait")
    assert (second.version, second.order, second.click) == (2, 8.0, 3.0)
    assert (third.version, third.order, third.click) == (3, 8.0, 1.0)
    assert store.history() == [RewardWeights(), second, third]
    back = store.rollback(2, "ann", "undo")
    assert (back.version, back.order, back.click) == (4, 8.0, 3.0)


@pytest.mark.parametrize("changes", [{"order": -1.0}, {"order": 101.0}, {"order": float("nan")}, {"margin": 1.0}, {}])
def test_a_weight_outside_its_bound_is_refused_and_nothing_is_written(url: str, changes: dict[str, float]) -> None:
    store = WeightStore(open_database(Connections(database=url)))
    with pytest.raises(InvalidRequest):
        store.set(changes, "ann", "")
    assert store.active().version == 1


def test_of_two_editors_who_saw_the_same_version_the_second_is_told(url: str) -> None:
    store = WeightStore(open_database(Connections(database=url)))
    store.set({"order": 8.0}, "ann", "first", expected_version=1)
    with pytest.raises(Conflict, match="version 2 by ann"):
        store.set({"order": 2.0}, "bob", "second", expected_version=1)


def test_versions_of_editors_at_once_have_no_gap_and_no_twin(url: str) -> None:
    stores = [WeightStore(open_database(Connections(database=url))) for _ in range(4)]

    def edit(store: WeightStore) -> None:
        for n in range(5):
            store.set({"order": float(n)}, "many", "at once")

    threads = [threading.Thread(target=edit, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [w.version for w in stores[0].history()] == list(range(1, 22))


def test_what_a_killed_publisher_left_goes_out_with_the_next_call(fresh_topics: Connections) -> None:
    """Between the commit and the send nothing is lost: the outbox row is still waiting."""
    engine = open_database(fresh_topics)
    store = WeightStore(engine)
    saved = [store.set({"order": 8.0}, "ann", "killed before publishing"), store.set({"order": 6.0}, "ann", "again")]
    with pytest.raises(Unavailable):
        publish_outbox(engine, Connections(kafka=f"127.0.0.1:{free_port()}"), patience_s=1.0)
    assert publish_outbox(engine, fresh_topics) == 2
    assert publish_outbox(engine, fresh_topics) == 0
    assert [entry.record for entry in log.scan(fresh_topics, WEIGHTS)] == saved
    with Session(engine) as session:
        assert all(row.sent_ms > 0 for row in session.scalars(select(OutboxRow)))


def test_a_wrong_database_url_names_the_form() -> None:
    with pytest.raises(InvalidSetting, match="postgresql"):
        open_database(Connections(database="nonsense"))
