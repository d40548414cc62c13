"""Database and topic agree: after a kill between the two, after publishers at once, and never by going backwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from confluent_kafka import Producer
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from headrace.services.ports import free_port
from reward.desk import records
from reward.desk.desk import Desk
from reward.desk.outbox import compare, publish
from schemas import log
from schemas.codec import encode
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import Incompatible, InvalidSetting, Unavailable
from schemas.tables import BookRow, OutboxRow
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights
from tests.reward.desk_toys import ANN

ROOT = Path(__file__).parents[2]

#: Decides, and is killed in the place of the first send.
KILLED = """
import os, signal, sys
from reward.desk import outbox
from reward.desk.desk import Desk
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role

connections = Connections(database=sys.argv[1], kafka=sys.argv[2])
engine = open_database(connections)
Desk(engine).set({"order": 8}, Actor("ann", Role.EDITOR), "killed before publishing")
outbox._send = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
outbox.publish(engine, connections)
"""
#: What any process does that runs next.
NEXT = """
import sys
from reward.desk.outbox import publish
from schemas.connections import Connections
from schemas.database import open_database

connections = Connections(database=sys.argv[1], kafka=sys.argv[2])
print(publish(open_database(connections), connections))
"""


def topic(connections: Connections) -> list[RewardWeights]:
    return [entry.record for entry in log.scan(connections, WEIGHTS)]


def send(connections: Connections, book: RewardWeights) -> None:
    producer = Producer({"bootstrap.servers": connections.kafka})
    producer.produce(WEIGHTS.name, key=records.KEY, value=encode(book), partition=0)
    producer.flush(10)


@pytest.fixture
def both(database: Connections, fresh_topics: Connections) -> Connections:
    """A database of each kind beside an empty topic."""
    return fresh_topics.model_copy(update={"database": database.database, "database_security": database.database_security})


@pytest.mark.services
def test_a_process_killed_between_commit_and_publish_loses_nothing(both: Connections) -> None:
    """SIGKILL where the first record would go out; another process sends it, and the topic is what the database says."""
    url = both.database.replace("shop@", "shop:secret@")
    argv = [sys.executable, "-c", KILLED, url, both.kafka]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    engine = open_database(both)
    saved = Desk(engine).book()
    assert saved.version == 2 and topic(both) == []
    done = subprocess.run([sys.executable, "-c", NEXT, *argv[3:]], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["1"]), done.stderr
    assert topic(both) == [saved]
    with Session(engine) as session:
        assert all(row.sent_ms > 0 for row in session.scalars(select(OutboxRow)))
        assert session.scalars(select(BookRow.body)).one().encode() == encode(saved)
    engine.dispose()


@pytest.fixture
def engine(fresh_topics: Connections) -> Engine:
    return open_database(fresh_topics)


@pytest.mark.services
def test_what_could_not_be_sent_goes_out_with_the_next_call(fresh_topics: Connections, engine: Engine) -> None:
    desk = Desk(engine)
    saved = [desk.set({"order": 8}, ANN, "Kafka is away"), desk.set({"order": 6}, ANN, "again")]
    with pytest.raises(Unavailable, match="saved"):
        publish(engine, Connections(kafka=f"127.0.0.1:{free_port()}"), patience_s=1.0)
    assert publish(engine, fresh_topics) == 2
    assert publish(engine, fresh_topics) == 0
    assert topic(fresh_topics) == saved


@pytest.mark.services
def test_a_record_out_of_order_or_lost_is_put_right_by_the_comparison(fresh_topics: Connections, engine: Engine) -> None:
    """A slow publisher sends version 2 after 3; and a new broker knows nothing of what was sent to the old."""
    desk = Desk(engine)
    second, third = desk.set({"order": 8}, ANN, "2"), desk.set({"order": 6}, ANN, "3")
    publish(engine, fresh_topics)
    assert compare(engine, fresh_topics) == 0
    send(fresh_topics, second)
    assert compare(engine, fresh_topics) == 1
    assert topic(fresh_topics) == [second, third, second, third]
    with Session(engine) as session, session.begin():
        session.execute(update(OutboxRow).values(sent_ms=0))
    assert publish(engine, fresh_topics) == 2  # twice is harmless: it ends with the same
    assert topic(fresh_topics)[-1] == third


@pytest.mark.services
def test_a_topic_that_nobody_wrote_to_is_filled_from_the_database(fresh_topics: Connections, engine: Engine) -> None:
    assert compare(engine, fresh_topics) == 0  # nothing was decided: neither has anything
    saved = Desk(engine).set({"order": 8}, ANN, "sent to a broker that is gone")
    with Session(engine) as session, session.begin():
        session.execute(update(OutboxRow).values(sent_ms=1))
    assert compare(engine, fresh_topics) == 1
    assert topic(fresh_topics) == [saved]


@pytest.mark.services
def test_a_topic_ahead_of_its_database_is_told_and_left_alone(fresh_topics: Connections, engine: Engine) -> None:
    Desk(engine).set({"order": 8}, ANN, "2")
    publish(engine, fresh_topics)
    send(fresh_topics, RewardWeights(version=7))
    with pytest.raises(Incompatible, match=r"version 2.*version 7.*restore"):
        compare(engine, fresh_topics)
    assert topic(fresh_topics)[-1].version == 7


@pytest.mark.services
def test_publishers_at_once_end_with_the_newest(fresh_topics: Connections, engine: Engine) -> None:
    """Three who decide and publish, as three command lines would."""
    failed: list[BaseException] = []

    def act(n: int) -> None:
        own = open_database(fresh_topics)
        try:
            for m in range(3):
                Desk(own).set({"order": 5.0 + n + m / 10}, ANN, "at once")
                publish(own, fresh_topics)
        except BaseException as error:  # noqa: BLE001 -- told below
            failed.append(error)
        own.dispose()

    threads = [threading.Thread(target=act, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    told = topic(fresh_topics)
    assert told[-1] == Desk(engine).book() and told[-1].version == 10
    assert {book.version for book in told} == set(range(2, 11))


def test_a_wrong_database_url_names_the_form() -> None:
    with pytest.raises(InvalidSetting, match="postgresql"):
        open_database(Connections(database="nonsense"))
