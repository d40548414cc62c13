"""The stream workers by name. Each is built only when asked for, so that one does not load what another needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.store import Store
from streams.settings import StreamSettings

if TYPE_CHECKING:
    from reward.settings import RewardSettings
    from streams.runtime.core import Agent

#: Names that `run_worker` knows.
NAMES = ("attribution", "posteriors", "rewarding", "keywords", "integrity")


def run_worker(
    names: Sequence[str],
    connections: Connections,
    artefacts: Artefacts,
    settings: StreamSettings | None = None,
    reward: RewardSettings | None = None,
    store: Store | None = None,
    instance: str | None = None,
) -> int:
    """Run these workers in one process until SIGTERM (returns 0) or a failure (returns 1).

    Several share memory and a processor; the state of each is its own, so they may be parted again. ``store`` defaults to the one of ``connections``. ``instance`` is a name that no other process of the same
    worker has at the same time: with it a restart takes its partitions back at once. Without one, several may be started
    freely.

    Raises:
        InvalidRequest: no such worker, one named twice, or keywords beside another: it is no agent of this runtime.
        Unavailable: the broker or the topics do not come up.
    """
    check_names(names)
    settings = settings or StreamSettings()
    store = store or Store(connections.store)
    if "keywords" in names:
        from streams.keywords.agent import run as run_keywords

        return run_keywords(connections, store, artefacts, settings.keywords, instance=instance, runtime=settings.runtime)
    agents = [a for name in names for a in agents_of(name, connections, store, artefacts, settings, reward)]
    from streams.runtime.process import run

    return run(agents, connections, store, settings.runtime, f"headrace-{'-'.join(names)}", instance)


def check_names(names: Sequence[str]) -> None:
    """Whether these workers can run in one process.

    Raises:
        InvalidRequest: as `run_worker`.
    """
    for name in names:
        if name not in NAMES:
            raise InvalidRequest("worker", name, f"one of {', '.join(NAMES)}", "name one of them")
    if len(set(names)) < max(1, len(names)):
        raise InvalidRequest("workers", " ".join(names) or "none", "at least one, each once", "name each once")
    if "keywords" in names and len(names) > 1:
        raise InvalidRequest("workers", " ".join(names), "keywords alone in its process", "start it apart")


def agents_of(
    name: str,
    connections: Connections,
    store: Store,
    artefacts: Artefacts,
    settings: StreamSettings,
    reward: RewardSettings | None,
) -> Sequence[Agent]:
    """The agents of a worker on the chunk runtime.

    Raises:
        InvalidRequest: no such worker.
    """
    builders: dict[str, Callable[[], Sequence[Agent]]] = {
        "attribution": lambda: _attribution(settings),
        "posteriors": lambda: _posteriors(connections, store, artefacts, reward),
        "rewarding": lambda: _rewarding(connections, store, artefacts, settings, reward),
        "integrity": lambda: _integrity(connections, settings),
    }
    if name not in builders:
        raise InvalidRequest("worker", name, f"one of {', '.join(NAMES)}", "name one of them")
    return builders[name]()


def _attribution(settings: StreamSettings) -> Sequence[Agent]:
    from streams.attribution.core import attribution_agent

    return [attribution_agent(settings.attribution)]


def _posteriors(
    connections: Connections, store: Store, artefacts: Artefacts, reward: RewardSettings | None
) -> Sequence[Agent]:
    from reward.settings import RewardSettings as Defaults
    from streams.posteriors.agents import posteriors_agents

    return posteriors_agents(connections, store, artefacts, reward or Defaults())


def _rewarding(
    connections: Connections, store: Store, artefacts: Artefacts, settings: StreamSettings, reward: RewardSettings | None
) -> Sequence[Agent]:
    from reward.settings import RewardSettings as Defaults
    from streams.rewarding.agent import rewarding_agent

    return [rewarding_agent(connections, store, artefacts, reward or Defaults(), settings.attribution.click_window_s)]


def _integrity(connections: Connections, settings: StreamSettings) -> Sequence[Agent]:
    from streams.integrity.agents import integrity_agents

    return integrity_agents(connections, settings)
