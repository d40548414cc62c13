"""A record of `catalogue.items` that the learner cannot use costs it nothing: it learns on, and says what it has left out."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.connections import Connections
from schemas.events import ItemAdded
from schemas.journal import StepIntent
from schemas.quarantine import Quarantined
from schemas.store import Store
from schemas.topics import EXAMPLES, ITEMS, QUARANTINE
from tests.trainers import policy_toys
from tests.trainers.learner_toys import ITEMS as KNOWN
from tests.trainers.learner_toys import view
from tests.trainers.learner_worker import SETTINGS, open_learner
from tests.trainers.test_resume import FREE
from trainers.exposition import Exposition
from trainers.journal import read_journal, read_topic
from trainers.learner import Learner
from trainers.state import Versions, save_warm_start

pytestmark = pytest.mark.services


def steps(learner: Learner, last: int) -> None:
    """Take steps up to this one."""
    while learner.state.step < last:
        if learner.wait_for_step():
            learner.step(learner.intend())


def refused(reason: str) -> float:
    """So many records the learners of this process have refused, as their metrics say."""
    labels = {"reader": "learner", "reason": reason}
    return Exposition("", 0).registry.get_sample_value("headrace_refused_item_records_total", labels) or 0.0


@pytest.mark.slow
def test_a_record_of_another_codebook_is_set_aside_once_and_training_goes_on(fresh_topics: Connections) -> None:
    """The good one behind it is taken in; a learner that reads the topic again counts and names it again, and quarantine holds
    it once, however often steps are taken again. So it is with an example that cannot be read."""
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, Versions("rel", "cb1"), {}).checkpoint
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    foreign = encode(ItemAdded(5, "foreign", "red lamp", FREE[0], "cb0"))
    good = encode(ItemAdded(5, "good", "red lamp", FREE[0], "cb1"))
    for raw in (foreign, b"{broken", good):
        producer.send(ITEMS.name, value=raw, partition=0)
    producer.send(EXAMPLES.name, value=b"{torn", partition=0)
    for number in range(60):
        producer.send(EXAMPLES.name, value=encode(view(number, clicked=[1])), partition=number % 2)
    producer.flush()
    before = {reason: refused(reason) for reason in ("other_codebook", "unreadable")}
    with capture_logs() as lines:
        for last in (2, 2, 4):  # no checkpoint is written: the later ones take two steps again
            if last == 4:
                producer.send(ITEMS.name, value=encode(ItemAdded(6, "later", "red rug", FREE[1], "cb1")), partition=0)
                producer.flush()
            learner = open_learner(fresh_topics, frozen)
            try:
                learner.resume()
                steps(learner, last)
                assert learner._stock.at(3).catalogue.items[KNOWN:] == ("good",)
            finally:
                learner.close()
    assert {reason: refused(reason) - count for reason, count in before.items()} == {"other_codebook": 3, "unreadable": 3}
    told = [line for line in lines if line["event"] == "item records refused"]
    assert [line["records"] for line in told] == [2, 2, 2]
    assert all("codebook of item foreign" in line["first"][0] and "'cb0'" in line["first"][0] for line in told)
    intents = [record for record in read_journal(fresh_topics) if isinstance(record, StepIntent)]
    assert [intent.catalogue_offset for intent in intents] == [3, 3, 4, 4]
    kept = [record for record in read_topic(fresh_topics, QUARANTINE) if isinstance(record, Quarantined)]
    assert [(q.topic, q.offset, q.reason, q.raw) for q in kept] == [
        (ITEMS.name, 0, "other_codebook", foreign),
        (ITEMS.name, 1, "unreadable", b"{broken"),
        (EXAMPLES.name, 0, "unreadable", b"{torn"),
    ]
    producer.close()


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 4])
def test_a_catalogue_too_small_for_a_step_is_learned_from_again_when_items_are_back(
    least: int, fresh_topics: Connections
) -> None:
    """Empty, or smaller than a group that is drawn without replacement: until then steps are over the items there were, a learner that
    is started again takes them too, and a refused record that was passed meanwhile is set aside once."""
    frozen = save_warm_start(Store(fresh_topics.store), policy_toys.toy_policy(), 0, Versions("rel", "cb1"), {}).checkpoint
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")

    def tell(*raws: bytes) -> None:
        for raw in raws:
            producer.send(ITEMS.name, value=raw, partition=0)
        producer.flush()

    def gone(number: int) -> bytes:
        return encode(ItemAdded(5, f"i{number}", f"title {number}", (), "cb1"))

    for number in range(60):
        producer.send(EXAMPLES.name, value=encode(view(number, clicked=[1])), partition=number % 2)
    tell(*(gone(number) for number in range(KNOWN - least)))
    drawn = {} if least == 1 else {"sampling": "without_replacement", "group": least}
    settings = SETTINGS.model_copy(update={"learner": SETTINGS.learner.model_copy(update=drawn)})
    with capture_logs() as lines:
        for last in (1, 3, 4):
            learner = open_learner(fresh_topics, frozen, settings)
            try:
                learner.resume()
                if last == 3:
                    tell(b"{broken", gone(KNOWN - 1))
                elif last == 4:
                    tell(encode(ItemAdded(6, "new", "red rug", FREE[0], "cb1")))
                learner._feed.catch_up()
                steps(learner, last)
            finally:
                learner.close()
    producer.close()
    before = KNOWN - least
    assert {(line["offset"], line["stays"]) for line in lines if line["event"] == "the catalogue before stays"} == {
        (before + 2, before)
    }
    intents = [record for record in read_journal(fresh_topics) if isinstance(record, StepIntent)]
    assert [intent.catalogue_offset for intent in intents] == [before] * 3 + [before + 3]
    kept = [record for record in read_topic(fresh_topics, QUARANTINE) if isinstance(record, Quarantined)]
    assert [(q.topic, q.offset, q.reason) for q in kept] == [(ITEMS.name, before, "unreadable")]
