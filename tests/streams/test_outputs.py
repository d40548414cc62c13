"""Agents declare where their outputs go: all of it, and nothing else; a worker waits for these topics as for its inputs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace.topics_admin import delete_topics
from reward.settings import PosteriorSettings, RewardSettings
from schemas.artefacts import Artefacts
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.store import Store
from schemas.topics import COMMITS, FACTS, INPUTS, QUARANTINE, STATES, VIEWS
from streams.attribution.core import attribution_agent
from streams.integrity.agents import integrity_agents
from streams.posteriors.agents import posteriors_agents
from streams.rewarding.agent import agent_of, snapshot_loader
from streams.runtime.core import Agent, Output, Record
from streams.runtime.process import await_topics, topics_of
from streams.runtime.writer import TransactionWriter
from streams.settings import AttributionSettings, StreamSettings
from tests.streams.conftest import committed
from tests.streams.integrity_feed import HOUR, ITEMS, START, sent, shop
from tests.streams.test_rewarding import RowTiers
from tests.trainers.learner_toys import catalogue

PARTITIONS = 2


def agents(store: Store, items: Catalogue) -> list[Agent]:
    """Every agent of the chunk runtime, in the order of the data's way."""
    connections, settings = Connections(store=store.url, partitions=PARTITIONS), StreamSettings()
    reward = RewardSettings(posterior=PosteriorSettings(snapshot_every_s=1_800))
    return [
        attribution_agent(settings.attribution),
        *posteriors_agents(connections, store, Artefacts(), reward),
        agent_of(items, RowTiers(), snapshot_loader(store), reward.posterior),
        *integrity_agents(connections, settings),
    ]


def run_through(some: Sequence[Agent], store: Store, log: dict[tuple[str, int], list[Record]]) -> dict[str, set[str]]:
    """Agent -> topics that its cores have written to; each reads what those before it have written."""
    written: dict[str, set[str]] = defaultdict(set)
    for agent in some:
        for partition in range(agent.inputs[0].partitions or PARTITIONS):
            core = agent.build(partition)
            for topic in agent.inputs:
                core.apply(topic.name, log[topic.name, partition])
            core.advance()
            outputs, blobs = core.drain()
            for blob in blobs:
                store.write(blob.path, blob.data)
            for output in outputs:
                written[agent.name].add(output.topic)
                place = log[output.topic, partition if output.partition is None else output.partition]
                place.append(Record(len(place), 0, output.key, output.value))
    return written


def test_every_agent_writes_to_the_topics_that_it_declares_and_to_no_other(tmp_path: Path) -> None:
    """Three hours of a shop, with a record that cannot be read in every topic: quarantine is everybody's."""
    store, log = Store(str(tmp_path)), dict[tuple[str, int], list[Record]]()
    log = defaultdict(list)
    some = agents(store, catalogue(ITEMS))
    for agent in some:
        for topic in agent.inputs:
            for partition in range(topic.partitions or PARTITIONS):
                log[topic.name, partition] = [Record(0, START, b"", b"{")]
    for n, event in enumerate(shop(3, pages=60)):
        one = sent(event)
        place = log[one.topic, n % PARTITIONS]
        place.append(Record(len(place), one.ts, one.key, one.raw))
    for place in [(topic.name, partition) for topic in INPUTS for partition in range(PARTITIONS)]:
        log[place].append(Record(len(log[place]), START + 9 * HOUR, b"", b'{"type":"tick","ts":%d}' % (START + 9 * HOUR)))
    written = run_through(some, store, log)
    assert written == {agent.name: {QUARANTINE.name, *(topic.name for topic in agent.outputs)} for agent in some}


@pytest.mark.services
def test_a_worker_waits_for_a_missing_output_and_names_it(fresh_topics: Connections) -> None:
    delete_topics(fresh_topics, [FACTS.name])
    agent = attribution_agent(AttributionSettings())
    with pytest.raises(Unavailable, match=rf"{FACTS.name} has 0 partitions instead of 1.*headrace topics --create"):
        await_topics(fresh_topics, [agent], 0.3)
    assert topics_of([agent]) == (*INPUTS, VIEWS, FACTS, QUARANTINE, COMMITS, STATES)


@pytest.mark.services
def test_a_writer_without_its_topic_says_which_and_how_to_make_it(
    fresh_topics: Connections, unique: Callable[[str], str]
) -> None:
    """A partition that a topic lacks is known at once; a topic that is missing altogether takes the client half a minute to
    believe, and then comes the same way. What the transaction held does not count."""
    writer = TransactionWriter(fresh_topics, unique("writer"), 20)
    writer.open(30)
    last = Output(COMMITS.name, b"k", b"v", 0)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=rf"{VIEWS.name}, partition 9 .*nknown partition.*headrace topics --create"):
        writer.write([Output(VIEWS.name, b"k", b"v", 0), Output(VIEWS.name, b"k", b"v", 9)], (), lambda _: last, 0)
    assert time.monotonic() - began < 15
    assert committed(fresh_topics, VIEWS.name) == [[], []]
