"""The two agents of the breaker for the runtime."""

from __future__ import annotations

from schemas.connections import Connections
from schemas.topics import FACTS, VERDICTS, VIEWS
from streams.integrity import judge_core, metrics, views_core
from streams.integrity.judge_core import JudgeCore
from streams.integrity.views_core import ViewFactsCore
from streams.runtime.core import Agent
from streams.settings import StreamSettings


def integrity_agents(connections: Connections, settings: StreamSettings) -> list[Agent]:
    """Facts per partition of views, and the judge of what all ``connections.partitions`` of them and of the join tell."""
    join, sources = settings.attribution, connections.partitions
    return [
        Agent(views_core.NAME, (VIEWS,), (FACTS,), lambda partition: ViewFactsCore(partition, join.integrity_window_s)),
        Agent(
            judge_core.NAME,
            (FACTS,),
            (VERDICTS,),
            lambda _: JudgeCore(sources, settings.integrity, join.integrity_window_s, join.click_window_s),
            told=metrics.tell,
        ),
    ]
