"""A rank other than 0: reads the same topics, keeps the same windows and weights, and takes its share of each step.

It decides, publishes and writes nothing; `trainers.orders` has what it is told.
"""

from __future__ import annotations

from threading import Event

import structlog

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.store import Store
from trainers import checkpoints
from trainers.follow import Feed
from trainers.orders import Begin, Compare, GoBack, Order, Stop, Take, digest
from trainers.ranks import Ranks
from trainers.state import Versions, load_state, restore
from trainers.step import advance
from trainers.stock import Stock, take_on
from trainers.tools import OpenTools

log = structlog.get_logger()


def follow(
    connections: Connections, store: Store, artefacts: Artefacts, open_tools: OpenTools, ranks: Ranks, stop: Event
) -> None:
    """Do as rank 0 says until it says that it is over; ``stop`` asks it to say so.

    Raises:
        Unavailable: another rank has ended, an artefact is missing, or the broker stays away.
        Corrupt, Incompatible: what is stored does not fit together.
    """
    follower: Follower | None = None
    try:
        while not isinstance(order := ranks.exchange(stop.is_set())[0], Stop):
            if isinstance(order, Begin):
                follower = Follower(connections, store, artefacts, open_tools, ranks, order)
            elif follower is not None:
                follower.obey(order)
    finally:
        if follower is not None:
            follower.close()
        ranks.close()


class Follower:
    """The state of one rank."""

    def __init__(
        self, connections: Connections, store: Store, artefacts: Artefacts, open_tools: OpenTools, ranks: Ranks, begin: Begin
    ) -> None:
        versions = Versions(artefacts.relevance, artefacts.identifiers)
        self._store, self._open_tools, self._ranks = store, open_tools, ranks
        manifest = checkpoints.verify(store, begin.checkpoint)
        self.state = load_state(store, manifest, begin.settings, versions, ranks, begin.sharded)
        # Rank 0 puts what cannot be read into quarantine, and what verdicts make of a step stands in its intent.
        self._feed = Feed(
            connections,
            self.state.offsets,
            artefacts.identifiers,
            self.state.policy.tokenizer.level_sizes,
            lambda _: None,
            lambda _: None,
            self.state.clock_ms,
        )
        self._stock = Stock(open_tools(self.state.policy, begin.settings), self._feed)
        log.info("follows", checkpoint=begin.checkpoint, step=self.state.step)

    def obey(self, order: Order) -> None:
        """Carry out one order."""
        if isinstance(order, Take):
            self._take(order)
        elif isinstance(order, GoBack):
            restore(self.state, self._store, order.checkpoint)
        elif isinstance(order, Compare):
            self._ranks.exchange(digest(self.state.policy))
            self.state.optimiser.hand_in()

    def close(self) -> None:
        """Let go of the broker."""
        self._feed.close()

    def _take(self, order: Take) -> None:
        take_on(order.settings, self.state, self._stock, self._open_tools)
        tools = self._stock.at(order.intent.catalogue_offset)
        advance(tools, self.state, self._feed.take(order.intent.offsets), order.intent, self._ranks, order.left_out)
