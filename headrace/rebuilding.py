"""Rebuilds a derived topic of a run under another name: makes the topic, runs the agent that a worker would run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.settings import Settings
from headrace.topics_admin import create_topics, delete_topics, describe
from schemas.connections import Connections
from schemas.store import Store
from schemas.topics import Topic, topic
from streams.replaying import marks
from streams.replaying.clients import new_reader
from streams.replaying.inputs import partitions_of
from streams.replaying.lines import Progress
from streams.replaying.rebuild import Result, maker_of, rebuild
from streams.replaying.span import Span


def run_rebuild(
    settings: Settings, of: str, into: str, span: Span, upstream: Sequence[str], overwrite: bool, on_progress: Progress
) -> Result:
    """Rebuild the derived topic ``of`` into ``into``, which gets its partitions and settings.

    Raises:
        InvalidRequest: no agent makes ``of``; ``into`` has records (with ``overwrite``: and no rebuild made them).
        Otherwise as `streams.replaying.rebuild.rebuild`.
    """
    connections, store = settings.connections, Store(settings.store)
    marks.check_name(into)
    agent = maker_of(of, connections, store, settings.streams, settings.reward)
    make_room(connections, replace(topic(of), name=into), overwrite)
    timeout_s = settings.streams.runtime.transaction_timeout_s
    return rebuild(connections, store, agent, topic(of), into, span, upstream, timeout_s, on_progress)


def make_room(connections: Connections, made: Topic, overwrite: bool) -> None:
    """Create the topic. With ``overwrite``, one of an earlier rebuild is deleted first, records and all."""
    if overwrite and made.name in describe(connections, [made]):
        reader = new_reader(connections)
        if any(reader.bounds(made.name, p)[1] for p in range(partitions_of(made, connections.partitions))):
            marks.check_overwritable(reader, connections, made.name)
            delete_topics(connections, [made.name])
    create_topics(connections, [made])
